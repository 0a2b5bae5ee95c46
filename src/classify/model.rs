//! A whole model: its tokenizer, its trunk and its heads; windows of token ids in, answers out.
//!
//! Knows nothing of threads, queues, deadlines or how a text is cut into windows.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use candle_core::{Tensor, bail};
use tokenizers::Tokenizer;
use xxhash_rust::xxh3::xxh3_128;

use super::answer::{Answer, Encoder, Fault, Pair, Tokens};
use super::builtin;
use super::checkpoint::{self, Modules, Wanted};
use super::device::Place;
use super::files::Files;
use super::findings::{Question, Questions};
use super::frame::{Frame, Framed};
use super::heads::Head;
use super::load_error::LoadError;
use super::reader::Reader;
use super::spec::{HubSpec, ModelInfo, Source};
use super::trunk::Trunk;

/// How a model is to be loaded.
pub(super) struct Options<'a> {
    /// The questions that it may answer; heads for others are left out.
    pub(super) questions: Questions,
    /// The one question that it was placed under by name, and must answer.
    pub(super) placed: Option<Question>,
    pub(super) device: &'a Place,
    pub(super) hub: &'a HubSpec,
}

/// The loaded model.
pub(super) struct Model {
    tokenizer: Tokenizer,
    /// Around windows; around pairs, where pairs are what it judges.
    frame: Frame,
    trunk: Trunk,
    answers: Vec<Asked>,
    room: usize,
    /// Equal for models that compute the same states of the same texts.
    identity: Identity,
    place: Place,
    info: ModelInfo,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Identity {
    trunk: u128,
    tokenizer: u128,
    manners: String,
    frame: Frame,
    room: usize,
}

/// One question, and the head that answers it.
pub(super) struct Asked {
    pub(super) question: Question,
    pub(super) head: Head,
    pub(super) labels: Vec<Arc<str>>,
    /// Which labels stand for what a guard looks for.
    pub(super) positive: Vec<usize>,
    pub(super) threshold: Option<f32>,
}

/// What the formats of checkpoints have in common once they are read.
pub(super) struct Parts {
    pub(super) family: &'static str,
    pub(super) trunk: Trunk,
    /// The trunk's configuration, as far as it bears on the numbers.
    pub(super) manners: String,
    /// A hash of the trunk's weights.
    pub(super) digest: u128,
    pub(super) answers: Vec<Asked>,
}

/// A tokenizer, and the special tokens that it puts around what its model reads.
struct Cutter {
    tokenizer: Tokenizer,
    frame: Frame,
    digest: u128,
}

/// Either format of `config.json`.
enum Config {
    Builtin(builtin::Config),
    Checkpoint(checkpoint::Config),
}

/// How many bytes the states of one forward may take on a device, beside the weights, the scores of attention and what
/// hides them.
const MOST_STATES: usize = 1 << 30;

/// From which probability on something counts as found where a model does not say.
const EVEN: f32 = 0.5;

impl Model {
    /// Loads a model from its files, fetching them from the hub where they are there.
    pub(super) fn load(source: &Source, options: &Options<'_>) -> Result<Self, LoadError> {
        let began = Instant::now();
        let files = Files::of(source, options.hub)?;
        let modules: Option<Modules> = files.json_if_any("modules.json")?;
        let folder = modules.as_ref().map_or_else(String::new, Modules::trunk);
        let config = Config::read(&files, &folder)?;
        if options.placed == Some(Question::Hallucination) {
            config.check_detector(&files, source)?;
        }
        let Cutter { tokenizer, frame, digest: cutter } = Cutter::read(&files, &folder, options.placed)?;
        let weights = files.weights(&folder)?;
        let reader = Reader::new(&weights, options.device);
        let wanted = Wanted { questions: options.questions, placed: options.placed };
        let parts = match config {
            Config::Builtin(config) => config.load(&files.path("config.json"), &reader, wanted.questions)?,
            Config::Checkpoint(config) => config.load(&files, modules.as_ref(), &reader, wanted)?,
        };
        let longest =
            parts.trunk.positions().min(checkpoint::longest(&files, &folder)?.unwrap_or(usize::MAX));
        let room = longest.saturating_sub(frame.len());
        let identity = Identity {
            trunk: parts.digest,
            tokenizer: cutter,
            manners: parts.manners,
            frame: frame.clone(),
            room,
        };
        let parameters = weights.parameters();
        let info = ModelInfo {
            source: source.to_string(),
            family: parts.family,
            questions: parts.answers.iter().map(|asked| asked.question).collect(),
            labels: named_labels(&parts.answers),
            parameters,
            bytes: weights.bytes() * options.device.dtype().size_in_bytes() / 4,
            max_tokens: longest,
            width: parts.trunk.width(),
            device: options.device.name(),
            dtype: options.device.dtype().as_str(),
            load_time: Duration::ZERO,
        };
        let mut model = Self {
            tokenizer,
            frame,
            trunk: parts.trunk,
            answers: parts.answers,
            room,
            identity,
            place: options.device.clone(),
            info,
        };
        model.require(source, options.placed)?;
        model.try_out()?;
        model.info.load_time = began.elapsed();
        Ok(model)
    }

    /// Joins models whose trunks and tokenizers are equal, so that one forward serves all of their heads.
    pub(super) fn share(models: Vec<Self>) -> Vec<Self> {
        let mut shared: Vec<Self> = Vec::new();
        for model in models {
            match shared.iter_mut().find(|other| other.identity == model.identity) {
                Some(other) => other.adopt(model),
                None => shared.push(model),
            }
        }
        shared
    }

    fn adopt(&mut self, other: Self) {
        self.info.source = format!("{}, {}", self.info.source, other.info.source);
        self.info.load_time += other.info.load_time;
        self.answers.extend(other.answers);
        self.info.questions = self.answers.iter().map(|asked| asked.question).collect();
        self.info.labels = named_labels(&self.answers);
    }

    fn require(&self, source: &Source, placed: Option<Question>) -> Result<(), LoadError> {
        match placed {
            Some(question) if self.asked(question).is_none() => Err(LoadError::Misplaced {
                model: source.to_string(),
                question: question.as_str(),
                reason: "it has no head for that",
            }),
            _ => Ok(()),
        }
    }

    /// Returns what is known of the model.
    pub(super) fn info(&self) -> &ModelInfo {
        &self.info
    }

    fn asked(&self, question: Question) -> Option<&Asked> {
        self.answers.iter().find(|asked| asked.question == question)
    }

    /// Puts the special tokens around pairs.
    pub(super) fn framed(&self, pairs: &[Pair<'_>]) -> candle_core::Result<Framed> {
        self.frame.pairs(pairs, self.room)
    }

    /// Computes two short texts where a device computes, so that what it cannot do is known before there are requests,
    /// and what it compiles and allocates once is there.
    fn try_out(&self) -> Result<(), LoadError> {
        if let Place::Tensors(engine) = &self.place {
            // The weights came on this thread's stream, and others compute on theirs.
            engine.device.synchronize()?;
            let texts: [&[u32]; 2] = [&[0], &[0, 0]];
            let pairs = texts.map(|text| Pair { first: &texts[0][..1], second: text });
            let framed = if self.answers().hallucination {
                self.frame.pairs(&pairs, self.room)
            } else {
                self.frame.windows(&texts, self.room)
            };
            self.forward(&framed?, self.answers())?;
        }
        Ok(())
    }

    fn forward(&self, framed: &Framed, wanted: Questions) -> candle_core::Result<Vec<Answer>> {
        let mut answers = vec![Answer::default(); framed.judged.len()];
        let asked: Vec<&Asked> = self.answers.iter().filter(|asked| wanted.has(asked.question)).collect();
        if answers.is_empty() || asked.is_empty() {
            return Ok(answers);
        }
        let keep: Vec<usize> = asked.iter().flat_map(|asked| &asked.head.states).copied().collect();
        let _turn = self.place.turn();
        let states = self.trunk.forward(framed, &keep)?;
        // Nothing is read back, for which a device must be done, before all of it is under way.
        let rows: Vec<Tensor> = asked
            .iter()
            .map(|asked| asked.head.forward(&states, &framed.starts))
            .collect::<candle_core::Result<_>>()?;
        for (asked, rows) in asked.into_iter().zip(rows) {
            let rows = rows.to_vec2::<f32>()?;
            if rows.iter().flatten().any(|value| !value.is_finite()) {
                bail!("{}: a result is not a number", asked.question.as_str());
            }
            for (at, answer) in answers.iter_mut().enumerate() {
                let tokens = || rows[framed.judged[at].clone()].iter();
                match asked.question {
                    Question::Domain => answer.domain = Some(rows[at].clone()),
                    Question::Jailbreak => answer.jailbreak = Some(asked.risk(&rows[at])),
                    Question::Embedding => answer.embedding = Some(rows[at].clone()),
                    Question::Pii => answer.pii = Some(tokens().map(|row| best(row)).collect()),
                    Question::Hallucination => {
                        answer.hallucination = Some(tokens().map(|row| asked.risk(row)).collect());
                    }
                }
            }
        }
        Ok(answers)
    }
}

impl Encoder for Model {
    fn answers(&self) -> Questions {
        self.info.questions
    }

    fn labels(&self, question: Question) -> Vec<Arc<str>> {
        self.asked(question).map(|asked| asked.labels.clone()).unwrap_or_default()
    }

    fn threshold(&self, question: Question) -> f32 {
        self.asked(question).and_then(|asked| asked.threshold).unwrap_or(EVEN)
    }

    fn room(&self) -> usize {
        self.room
    }

    fn at_once(&self) -> usize {
        match self.place {
            Place::Kernels => usize::MAX,
            // The device computes one while the next waits for its turn.
            Place::Tensors(_) => 2,
        }
    }

    fn most_tokens(&self) -> usize {
        match &self.place {
            Place::Kernels => usize::MAX,
            Place::Tensors(engine) => {
                let kept: BTreeSet<usize> =
                    self.answers.iter().flat_map(|asked| asked.head.states.iter().copied()).collect();
                let numbers = self.trunk.numbers_a_token(kept.len());
                MOST_STATES / (numbers * engine.dtype.size_in_bytes())
            }
        }
    }

    fn tokens(&self, text: &str) -> Result<Tokens, Fault> {
        let encoding = self.tokenizer.encode(text, false)?;
        let bytes = encoding.get_offsets().iter().map(|(start, end)| *start..*end).collect();
        Ok(Tokens { ids: encoding.get_ids().to_vec(), bytes })
    }

    fn run(&self, windows: &[&[u32]], wanted: Questions) -> Result<Vec<Answer>, Fault> {
        Ok(self.forward(&self.frame.windows(windows, self.room)?, wanted)?)
    }

    fn run_pairs(&self, pairs: &[Pair<'_>]) -> Result<Vec<Answer>, Fault> {
        Ok(self.forward(&self.framed(pairs)?, Questions::HALLUCINATION)?)
    }
}

impl Asked {
    /// Adds up the probabilities of the labels that a guard looks for.
    fn risk(&self, row: &[f32]) -> f32 {
        let of_each = self.positive.iter().filter_map(|at| row.get(*at));
        if self.head.is_exclusive() {
            of_each.sum::<f32>().min(1.0)
        } else {
            of_each.copied().fold(0.0, f32::max)
        }
    }
}

impl Cutter {
    fn read(files: &Files, folder: &str, placed: Option<Question>) -> Result<Self, LoadError> {
        let name = if files.has(&format!("{folder}tokenizer.json"))? {
            format!("{folder}tokenizer.json")
        } else {
            "tokenizer.json".to_owned()
        };
        let bytes = files.read(&name)?;
        let wrong = |source| LoadError::Tokenizer { path: files.path(&name), source };
        let tokenizer = tokenizer(&bytes).map_err(wrong)?;
        let frame = match placed {
            Some(Question::Hallucination) => Frame::of_pairs(&tokenizer).map_err(wrong)?,
            _ => Some(Frame::of_texts(&tokenizer).map_err(wrong)?),
        };
        let frame = frame.ok_or_else(|| LoadError::Unsupported {
            path: files.path(&name),
            reason: "it puts nothing between the two texts of a pair".to_owned(),
        })?;
        Ok(Self { tokenizer, frame, digest: xxh3_128(&bytes) })
    }
}

impl Config {
    fn read(files: &Files, folder: &str) -> Result<Self, LoadError> {
        let name = format!("{folder}config.json");
        let value: serde_json::Value = files.json(&name)?;
        let wrong = |source| LoadError::Config { path: files.path(&name), source };
        if value.get("trunk").is_some() {
            return serde_json::from_value(value).map(Self::Builtin).map_err(wrong);
        }
        serde_json::from_value(value).map(Self::Checkpoint).map_err(wrong)
    }

    fn check_detector(&self, files: &Files, source: &Source) -> Result<(), LoadError> {
        match self {
            Self::Checkpoint(config) => config.check_detector(files),
            Self::Builtin(_) => Err(LoadError::Misplaced {
                model: source.to_string(),
                question: Question::Hallucination.as_str(),
                reason: "it has no head for that",
            }),
        }
    }
}

impl Source {
    /// Reads which domains a model would tell apart, without its weights.
    pub fn labels(&self, hub: &HubSpec, placed: Option<Question>) -> Result<Vec<String>, LoadError> {
        let files = Files::of(self, hub)?;
        let modules: Option<Modules> = files.json_if_any("modules.json")?;
        let folder = modules.as_ref().map_or_else(String::new, Modules::trunk);
        Ok(match Config::read(&files, &folder)? {
            Config::Builtin(config) => config.domains(),
            Config::Checkpoint(config) => config.domains(Wanted { questions: Questions::ALL, placed }),
        })
    }
}

impl Source {
    /// Says whether a model looks as if it could judge answers by what their model was told, without its weights.
    pub(super) fn check_detector(&self, hub: &HubSpec) -> Result<(), LoadError> {
        let files = Files::of(self, hub)?;
        Config::read(&files, "")?.check_detector(&files, self)?;
        Cutter::read(&files, "", Some(Question::Hallucination)).map(drop)
    }
}

fn named_labels(answers: &[Asked]) -> Vec<(Question, Vec<String>)> {
    let labels = |asked: &Asked| asked.labels.iter().map(ToString::to_string).collect::<Vec<_>>();
    let with_labels = answers.iter().filter(|asked| !asked.labels.is_empty());
    with_labels.map(|asked| (asked.question, labels(asked))).collect()
}

fn tokenizer(bytes: &[u8]) -> tokenizers::Result<Tokenizer> {
    let mut tokenizer = Tokenizer::from_bytes(bytes)?;
    // Windows are cut by their reader, and nothing is padded.
    tokenizer.with_truncation(None)?;
    tokenizer.with_padding(None);
    Ok(tokenizer)
}

/// Returns the place and value of the largest probability.
fn best(row: &[f32]) -> (u16, f32) {
    let largest = row.iter().copied().enumerate().max_by(|(_, a), (_, b)| a.total_cmp(b));
    largest.map_or((0, 0.0), |(at, probability)| (u16::try_from(at).unwrap_or(u16::MAX), probability))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use candle_core::{DType, Device};
    use serde::Deserialize;

    use super::*;
    use crate::classify::Spec;
    use crate::classify::device::Engine;
    use crate::classify::ops::{Pooling, pool};

    #[derive(Deserialize)]
    struct Golden {
        text: String,
        /// Without the special tokens, cut to the window that was judged.
        ids: Vec<u32>,
        middle: Vec<f32>,
        last: Vec<f32>,
        probabilities: Vec<f32>,
        jailbreak: f32,
        pii: Vec<(u16, f32)>,
        embedding: Vec<f32>,
    }

    fn load(source: &Source) -> Result<Model, LoadError> {
        load_on(source, &Place::Kernels)
    }

    fn load_on(source: &Source, device: &Place) -> Result<Model, LoadError> {
        let hub = HubSpec::default();
        Model::load(source, &Options { questions: Questions::ALL, placed: None, device, hub: &hub })
    }

    fn golden() -> Vec<Golden> {
        serde_json::from_str(include_str!("../../tests/golden/classify.json")).unwrap()
    }

    fn folder(path: &Path) -> Source {
        Source::Folder(path.to_owned())
    }

    fn domain(model: &Model, text: &str) -> Vec<f32> {
        let ids = model.tokens(text).unwrap().ids;
        let window = &ids[..ids.len().min(model.room())];
        model.run(&[window], Questions::DOMAIN).unwrap().remove(0).domain.unwrap()
    }

    fn assert_near(got: &[f32], want: &[f32]) {
        assert_eq!(got.len(), want.len());
        for (got, want) in got.iter().zip(want) {
            assert!((got - want).abs() < 1e-3, "{got} against {want}");
        }
    }

    #[test]
    fn states_and_probabilities_are_those_of_training() {
        let model = load(&Source::Builtin).unwrap();
        for case in golden() {
            assert_eq!(model.tokens(&case.text).unwrap().ids[..case.ids.len()], case.ids);
            let framed = model.frame.windows(&[&case.ids], model.room).unwrap();
            let states = model.trunk.forward(&framed, &[3, 6]).unwrap();
            for (state, want) in [(3, &case.middle), (6, &case.last)] {
                let mean = pool(&[states.get(state).unwrap()], &framed.starts, Pooling::Mean).unwrap();
                assert_near(&mean.to_vec2().unwrap()[0], want);
            }
            let answer = model.run(&[&case.ids], Questions::ALL).unwrap().remove(0);
            assert_near(&answer.domain.unwrap(), &case.probabilities);
            assert_near(&[answer.jailbreak.unwrap()], &[case.jailbreak]);
            let vector = answer.embedding.unwrap();
            let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
            assert_near(&vector.iter().map(|x| x / length).collect::<Vec<_>>(), &case.embedding);
            for ((label, p), (wanted, wanted_p)) in answer.pii.unwrap().into_iter().zip(case.pii) {
                assert_near(&[p], &[wanted_p]);
                // Labels may change places where they are equally likely.
                assert!(label == wanted || p < 0.51, "{label} against {wanted}");
            }
        }
    }

    #[test]
    fn half_the_bits_say_the_same() {
        let golden = golden();
        let windows: Vec<&[u32]> = golden.iter().map(|case| case.ids.as_slice()).collect();
        for (dtype, near) in [(DType::F32, 1e-3), (DType::F16, 5e-3), (DType::BF16, 5e-2)] {
            let engine = Engine::new(Device::Cpu, dtype);
            let model = load_on(&Source::Builtin, &Place::Tensors(engine)).unwrap();
            let answers = model.run(&windows, Questions::ALL).unwrap();
            for (case, answer) in golden.iter().zip(answers) {
                let domain = answer.domain.unwrap();
                let off = domain.iter().zip(&case.probabilities).map(|(got, want)| (got - want).abs());
                let off = off.fold((answer.jailbreak.unwrap() - case.jailbreak).abs(), f32::max);
                assert!(off < near, "{dtype:?}: {}: off by {off}", case.text);
                assert_eq!(best(&domain).0, best(&case.probabilities).0, "{dtype:?}: {}", case.text);
                for ((label, p), (wanted, _)) in answer.pii.unwrap().into_iter().zip(&case.pii) {
                    assert!(label == *wanted || p < 0.6, "{dtype:?}: {label} against {wanted}");
                }
                let vector = answer.embedding.unwrap();
                let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
                let cosine = vector.iter().zip(&case.embedding).map(|(a, b)| a * b / length).sum::<f32>();
                assert!(cosine > 0.999, "{dtype:?}: {}: cosine {cosine}", case.text);
            }
        }
    }

    #[test]
    fn a_device_takes_as_many_tokens_as_its_share_of_memory_holds() {
        let most = |dtype| {
            let engine = Engine::new(Device::Cpu, dtype);
            load_on(&Source::Builtin, &Place::Tensors(engine)).unwrap().most_tokens()
        };
        let (single, half) = (most(DType::F32), most(DType::BF16));
        assert!(single >= Spec::default().batch_tokens, "{single}");
        assert_eq!(half / 2, single);
        // Six states of 384 numbers are kept, and at most eight times as many made of them.
        assert!(half * 2 * 9 * 6 * 384 <= MOST_STATES);
        assert_eq!(load(&Source::Builtin).unwrap().most_tokens(), usize::MAX);
    }

    #[test]
    fn windows_in_one_batch_get_the_answers_that_they_get_alone() {
        let model = load(&Source::Builtin).unwrap();
        let texts = ["What is 2+2?", "", "Who wrote the constitution, and why? ".repeat(20).leak(), "a"];
        let tokens: Vec<Vec<u32>> = texts.iter().map(|text| model.tokens(text).unwrap().ids).collect();
        let windows: Vec<&[u32]> = tokens.iter().map(Vec::as_slice).collect();
        let together = model.run(&windows, Questions::DOMAIN).unwrap();
        for (window, together) in windows.iter().zip(together) {
            let alone = model.run(&[window], Questions::DOMAIN).unwrap().remove(0);
            for (a, b) in alone.domain.unwrap().iter().zip(together.domain.unwrap()) {
                assert!((a - b).abs() < 1e-5, "{a} against {b}");
            }
        }
        assert!(model.run(&[], Questions::ALL).unwrap().is_empty());
        let long = vec![2000; model.room() + 1];
        assert!(model.run(&[&long], Questions::DOMAIN).is_err());
    }

    #[test]
    fn tokens_know_which_bytes_they_span() {
        let model = load(&Source::Builtin).unwrap();
        let text = "Ünïcödé 🦀 né à Zürich";
        let tokens = model.tokens(text).unwrap();
        assert_eq!(tokens.ids.len(), tokens.bytes.len());
        assert!(tokens.bytes.iter().all(|span| text.get(span.clone()).is_some()));
        assert_eq!(&text[tokens.bytes.last().unwrap().clone()], "Zürich");
    }

    #[test]
    fn equal_trunks_are_shared() {
        let here = folder(&Path::new(env!("CARGO_MANIFEST_DIR")).join("models/builtin"));
        let models = vec![load(&Source::Builtin).unwrap(), load(&here).unwrap()];
        let text = "the force on a charge in a magnetic field";
        assert_eq!(domain(&models[0], text), domain(&models[1], text));
        let shared = Model::share(models);
        assert_eq!(shared.len(), 1);
        assert!(shared[0].info().source.contains("builtin, /"));
    }

    #[test]
    fn a_folder_without_a_model_is_named_in_the_error() {
        let error = load(&folder(Path::new("/nowhere"))).err().unwrap();
        assert_eq!(error.to_string().split(": ").next(), Some("cannot read /nowhere/config.json"));
    }

    #[test]
    fn a_broken_model_file_is_an_error_that_names_it_and_the_tensor() {
        let scratch = tempfile::tempdir().unwrap();
        let builtin = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/builtin");
        let [config, tokenizer, weights] = ["config.json", "tokenizer.json", "model.safetensors"]
            .map(|name| std::fs::read(builtin.join(name)).unwrap());
        let fails = |config: &[u8], tokenizer: &[u8], weights: &[u8], wanted: &str| {
            std::fs::write(scratch.path().join("config.json"), config).unwrap();
            std::fs::write(scratch.path().join("tokenizer.json"), tokenizer).unwrap();
            std::fs::write(scratch.path().join("model.safetensors"), weights).unwrap();
            let error = load(&folder(scratch.path())).err().unwrap().to_string();
            let at = format!("{}/", scratch.path().display());
            let error = error.strip_prefix(&at).unwrap_or(&error);
            assert!(error.starts_with(wanted), "{error}");
        };
        fails(&config, &tokenizer, &weights[..weights.len() / 2], "model.safetensors: ");
        fails(&config, &tokenizer, &weights[..4], "model.safetensors: not a safetensors file");
        fails(&config, &tokenizer, &[255; 64], "model.safetensors: not a safetensors file");
        fails(&config, b"{}", &weights, "tokenizer.json: ");
        fails(b"{}", &tokenizer, &weights, "config.json: missing field `model_type`");
        fails(b"{\"model_type\": \"gpt2\"}", &tokenizer, &weights, "config.json: model_type `gpt2`");
        let config = String::from_utf8(config).unwrap();
        let narrower = config.replace("\"width\": 384", "\"width\": 372");
        let wanted = "model.safetensors: embeddings.word_embeddings.weight: ";
        fails(narrower.as_bytes(), &tokenizer, &weights, wanted);
        let deeper = config.replace("\"layers\": 6", "\"layers\": 7");
        let wanted = "model.safetensors: no tensor encoder.layer.6.";
        fails(deeper.as_bytes(), &tokenizer, &weights, wanted);
    }
}
