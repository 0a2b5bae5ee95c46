//! Owns `signalbox import`: files and folders of other systems in, one policy and the report on it out.

use super::{Failure, print_failure, say};
use crate::classify;
use crate::policy::import::{ImportOutput, ImportSource, KeyOutcome, MAX_SOURCES, Note, import, recognise};
use crate::policy::{self, Process};
use clap::Args;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// How deep folders are looked into.
const MAX_DEPTH: usize = 8;

/// The largest file that is read, in bytes.
const MAX_BYTES: u64 = 4 << 20;

/// The exit code where nothing given is a configuration.
const NO_CONFIGURATION: u8 = 2;

/// The widest path that keeps the table aligned.
const WIDEST_PATH: usize = 72;

/// Arguments of `signalbox import`.
#[derive(Debug, Args)]
pub(super) struct ImportArgs {
    /// A configuration of vLLM Semantic Router or values of the production stack, the manifests beside it, its file of
    /// tools, and folders of these.
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Where the policy goes, instead of standard output.
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Tell what became of every key, on standard error.
    #[arg(long)]
    explain: bool,
    /// Tell it as JSON.
    #[arg(long)]
    json: bool,
}

/// Why an import ends without a policy.
enum ImportFailure {
    /// None of the files is a configuration.
    Nothing(Failure),
    /// The files cannot become a valid policy.
    Invalid(Failure),
}

impl<E: Into<Failure>> From<E> for ImportFailure {
    fn from(error: E) -> Self {
        Self::Invalid(error.into())
    }
}

impl ImportArgs {
    /// Runs the subcommand to its exit code.
    pub(super) fn run(self) -> ExitCode {
        match self.finish() {
            Ok(()) => ExitCode::SUCCESS,
            Err(ImportFailure::Nothing(failure)) => {
                print_failure(&*failure);
                ExitCode::from(NO_CONFIGURATION)
            }
            Err(ImportFailure::Invalid(failure)) => {
                print_failure(&*failure);
                ExitCode::FAILURE
            }
        }
    }

    fn finish(self) -> Result<(), ImportFailure> {
        let sources = self.sources()?;
        let imported = import(&sources).map_err(|error| ImportFailure::Nothing(error.into()))?;
        self.report(&imported);
        if !imported.lost.is_empty() {
            let lost: Vec<String> = imported.lost.iter().map(ToString::to_string).collect();
            let why = "none of these decisions can be taken over (`--explain` tells why)";
            return Err(format!("{why}: {}", lost.join("; ")).into());
        }
        let base = self.output.as_deref().and_then(Path::parent).unwrap_or(Path::new("."));
        check(&imported.policy, base)?;
        match &self.output {
            None => say(imported.policy.trim_end()),
            Some(path) => {
                std::fs::write(path, &imported.policy)
                    .map_err(|error| format!("{}: {error}", path.display()))?;
            }
        }
        Ok(())
    }

    /// Reads the files; of a folder those that are configuration.
    fn sources(&self) -> Result<Vec<ImportSource>, Failure> {
        let mut sources = Vec::new();
        for path in &self.paths {
            if !path.is_dir() {
                sources.push(self.source(path)?);
                continue;
            }
            let mut found = Vec::new();
            walk(path, 0, &mut found)?;
            found.sort();
            for path in found {
                let source = self.source(&path)?;
                // A folder may hold files of other programs; a file given by name is always read.
                if recognise(&source.text) != policy::import::ConfigDialect::Unknown {
                    sources.push(source);
                }
            }
        }
        Ok(sources)
    }

    fn source(&self, path: &Path) -> Result<ImportSource, Failure> {
        let failed = |error: std::io::Error| format!("{}: {error}", path.display());
        if std::fs::metadata(path).map_err(failed)?.len() > MAX_BYTES {
            return Err(format!("{}: larger than {MAX_BYTES} bytes", path.display()).into());
        }
        let bytes = std::fs::read(path).map_err(failed)?;
        // What the policy refers to is found from its own folder.
        let folder =
            self.output.as_deref().and_then(Path::parent).filter(|folder| !folder.as_os_str().is_empty());
        let name = match folder {
            None => path.to_owned(),
            Some(folder) => path
                .strip_prefix(folder)
                .map(Path::to_owned)
                .or_else(|_| path.canonicalize())
                .map_err(failed)?,
        };
        Ok(ImportSource {
            name: name.display().to_string(),
            text: String::from_utf8_lossy(&bytes).into_owned(),
        })
    }

    /// Reports the outcome of every key where that is asked for, else only their numbers.
    fn report(&self, imported: &ImportOutput) {
        if self.json {
            note(
                &serde_json::json!({ "dialect": imported.dialect.to_string(), "keys": imported.notes })
                    .to_string(),
            );
        } else if self.explain {
            note(&table(&imported.notes));
        }
        if !self.json {
            note(&summary(imported));
        }
    }
}

fn walk(folder: &Path, depth: usize, found: &mut Vec<PathBuf>) -> Result<(), Failure> {
    let entries = std::fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if name.starts_with('.') || found.len() > MAX_SOURCES {
            continue;
        }
        if path.is_dir() {
            if depth < MAX_DEPTH {
                walk(&path, depth + 1, found)?;
            }
        } else if is_configuration(&name) {
            found.push(path);
        }
    }
    Ok(())
}

/// Whether a file's name is that of a configuration, as `policy.yaml`, `config.yaml.local` and `route.template` do.
fn is_configuration(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    [".yaml", ".yml"].iter().any(|end| name.contains(end))
        || [".json", ".template"].iter().any(|end| name.ends_with(end))
}

/// Checks the policy as `signalbox check` does.
fn check(text: &str, base: &Path) -> Result<(), Failure> {
    let wrong = |issues: policy::Issues| {
        format!("the imported policy has {} issue(s):\n{issues}\n\n{text}", issues.0.len())
    };
    policy::load_with(text, base, &Process, &classify::inspect).map_err(wrong)?;
    Ok(())
}

fn table(notes: &[Note]) -> String {
    let places: Vec<String> = notes.iter().map(|note| format!("{}:{}", note.file, note.line)).collect();
    let width = |texts: &mut dyn Iterator<Item = usize>| texts.max().unwrap_or(0);
    let (first, second) = (
        width(&mut places.iter().map(|place| place.chars().count())),
        width(&mut notes.iter().map(|note| note.path.chars().count())).min(WIDEST_PATH),
    );
    let mut text = String::new();
    for (place, note) in places.iter().zip(notes) {
        let (path, outcome, reason) = (&note.path, note.outcome.as_str(), note.outcome.reason());
        let _ = writeln!(text, "{place:first$}  {path:second$}  {outcome:11}  {reason}");
    }
    text.trim_end().to_owned()
}

fn summary(imported: &ImportOutput) -> String {
    let count =
        |wanted: fn(&KeyOutcome) -> bool| imported.notes.iter().filter(|note| wanted(&note.outcome)).count();
    format!(
        "{}: {} keys mapped, {} not needed, {} broken in the original, {} unsupported",
        imported.dialect,
        count(|outcome| matches!(outcome, KeyOutcome::Mapped { .. })),
        count(|outcome| matches!(outcome, KeyOutcome::Ignored { .. })),
        count(|outcome| matches!(outcome, KeyOutcome::Broken { .. })),
        count(|outcome| matches!(outcome, KeyOutcome::Unsupported { .. })),
    )
}

#[expect(clippy::print_stderr, reason = "the policy goes to standard output, the report to standard error")]
fn note(text: &str) {
    eprintln!("{text}");
}
