//! Owns `signalbox explain`: where prompts would go, and why.
//!
//! Decides nothing itself: it shows what the classifier and the proxy's own planner return, and what a running gateway says
//! of its replicas.

mod explanation;
mod prompts;
mod replicas;

use super::Failure;
use super::offline::{OfflineArgs, OfflineSnapshot, print_line, progress_bar, runtime};
use crate::classify::ClassifyHeads;
use crate::openai::{Api, ChatRequest};
use crate::route::{PlanInput, plan};
use clap::Args;
use explanation::{Explanation, ExplanationParts};
use prompts::ExplainPrompt;
use replicas::RunningGateway;
use std::path::PathBuf;
use std::time::Instant;

/// Arguments of `signalbox explain`.
#[derive(Debug, Args)]
pub(super) struct ExplainArgs {
    /// Prompts, each an argument; `-` reads them from standard input as --file does.
    #[arg(required_unless_present = "file")]
    prompts: Vec<String>,
    /// A file of prompts: one a line, or JSON lines with a `text`, or with a whole chat request (an object with
    /// `messages`, by itself or as `body`).
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    #[command(flatten)]
    offline: OfflineArgs,
    /// The model that the client names; the policy's first virtual model, when left out.
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// The operator's port of a running gateway, such as 127.0.0.1:9090, which says how each replica stands for the request;
    /// none of them is asked.
    #[arg(long, value_name = "ADDRESS")]
    gateway: Option<String>,
    /// Ask for the embedding too, and say how wide and how long it is.
    #[arg(long)]
    embedding: bool,
    /// Print a JSON object for each prompt, on a line of its own.
    #[arg(long)]
    json: bool,
}

impl ExplainArgs {
    pub(super) fn run(self) -> Result<(), Failure> {
        let offline = self.offline.load(|_as_it_is| {})?;
        let virtual_model = offline.snapshot.policy.virtual_models().next().unwrap_or("auto");
        let model = self.model.as_deref().unwrap_or(virtual_model);
        let prompts = prompts::read(&self.prompts, self.file.as_deref(), model)?;
        let questions = ClassifyHeads { embedding: self.embedding, ..ClassifyHeads::ALL };
        let gateway = self.gateway.as_deref().map(RunningGateway::new);
        let (runtime, bar) = (runtime()?, progress_bar(prompts.len()));
        for prompt in prompts {
            let mut explanation = runtime.block_on(explain(&offline, &prompt, questions));
            if let Some(gateway) = &gateway {
                explanation.tell_of_replicas(gateway.replicas(&prompt.request)?);
            }
            let text = if self.json { serde_json::to_string(&explanation)? } else { explanation.to_string() };
            bar.inc(1);
            if !bar.suspend(|| print_line(&text))? {
                break;
            }
        }
        bar.finish_and_clear();
        Ok(())
    }
}

async fn explain<'a>(
    offline: &'a OfflineSnapshot,
    prompt: &'a ExplainPrompt,
    questions: ClassifyHeads,
) -> Explanation {
    let request: &ChatRequest = &prompt.request;
    let text = request.prompt_text();
    let findings = offline.snapshot.classifier.classify(&text, questions, offline.deadline()).await;
    let input = PlanInput {
        api: Api::Chat,
        request,
        principal: None,
        sent: &[],
        deadline: offline.deadline(),
        dry_run: false,
    };
    let began = Instant::now();
    let planned = plan(&offline.snapshot, input).await;
    let parts = ExplanationParts { findings, planned, decide_time: began.elapsed() };
    Explanation::new(offline, prompt, &text, parts)
}
