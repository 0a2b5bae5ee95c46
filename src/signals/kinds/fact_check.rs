//! The `fact_check` signal: prompts whose answers can be held against facts, and prompts where there is nothing to
//! check.

use std::borrow::Cow;

use crate::classify::Unknown;
use crate::policy::FactCheckSignal;
use crate::signals::embeddings::ExampleEmbeddings;
use crate::signals::examples::{Class, ExampleBank, ExampleTask};
use crate::signals::findings::ClassifierFindings;
use crate::signals::inputs::SignalInputs;
use crate::signals::kind::{LearnedDetector, SignalDetector, SignalSpec};
use crate::signals::value::SignalValue;

pub(in crate::signals) static FACT_CHECK: ExampleTask = ExampleTask {
    classes: &[Class::of("needed", NEEDED), Class::of("not needed", NOT_NEEDED)],
    temperature: 0.03,
    rest: None,
};

impl SignalSpec for FactCheckSignal {
    fn inputs(&self) -> SignalInputs {
        SignalInputs::EMBEDDING
    }

    fn examples(&self) -> Vec<Cow<'_, str>> {
        FACT_CHECK.examples().collect()
    }

    fn detector(&self, embeddings: &ExampleEmbeddings<'_>) -> Result<SignalDetector, regex::Error> {
        let bank = ExampleBank::new(&FACT_CHECK, embeddings);
        Ok(SignalDetector::Learned(Box::new(FactCheckDetector { bank, signal: self.clone() })))
    }
}

#[derive(Debug)]
struct FactCheckDetector {
    bank: ExampleBank,
    signal: FactCheckSignal,
}

impl LearnedDetector for FactCheckDetector {
    fn evaluate(&self, found: &ClassifierFindings<'_>) -> Result<SignalValue, Unknown> {
        let matching = [usize::from(!self.signal.needed)];
        Ok(self.bank.value(found.embedding()?, &matching, self.signal.min_score.fraction()))
    }
}

/// Something in the answer is true or false whatever the point of view.
const NEEDED: &[&str] = &[
    "When was the Suez Canal opened?",
    "Who was the first woman to win a Nobel Prize?",
    "What is the population of Nairobi?",
    "How many moons does Saturn have?",
    "Is it true that goldfish only remember things for three seconds?",
    "Which country produces the most coffee?",
    "What are the side effects of ibuprofen?",
    "Who is the current prime minister of Canada?",
    "How tall is Mount Kilimanjaro?",
    "What year did the Berlin Wall come down?",
    "Does vitamin C prevent the common cold?",
    "What caused the fall of the Western Roman Empire?",
    "Which team won the World Cup in 1998?",
    "At what temperature does aluminium melt?",
    "Who wrote One Hundred Years of Solitude?",
    "What is the legal drinking age in Japan?",
    "How far is the Moon from the Earth?",
    "What does the amendment on free speech actually say?",
    "When did humans first arrive in Australia?",
    "What is the maximum safe dose of paracetamol for an adult?",
    "How much did the company earn last quarter?",
    "Is lightning hotter than the surface of the sun?",
    "Tell me about the history of the Ottoman Empire.",
    "What happened at the Battle of Hastings?",
    "Which element has the highest electrical conductivity?",
    "How many people died in the 1918 flu pandemic?",
    "Who invented the telephone, and when was it patented?",
    "What is the tax rate for small businesses in Ireland?",
    "Explain how mRNA vaccines work.",
    "Where is the deepest point of the ocean?",
];

/// Made up, worked out, rewritten or a matter of taste.
const NOT_NEEDED: &[&str] = &[
    "Write a poem about the sea in autumn.",
    "Give me ten ideas for a birthday party for my daughter.",
    "Rewrite this paragraph so that it sounds friendlier.",
    "Translate this sentence into Spanish.",
    "Write a Python function that reverses a list.",
    "Fix the bug in this code.",
    "Hello, how are you today?",
    "Tell me a joke about cats.",
    "Help me write a cover letter for a marketing job.",
    "What would be a good name for my new bakery?",
    "Summarize the text below in two sentences.",
    "Compose a short story about a dragon who is afraid of fire.",
    "Let's play a game where you are a pirate.",
    "What is 347 times 19?",
    "Solve for x: 3x + 7 = 22.",
    "Write a SQL query that returns the ten newest orders.",
    "Do you think I should break up with my boyfriend?",
    "Plan a week of vegetarian dinners for me.",
    "Make this email shorter and more polite.",
    "Which do you like more, tea or coffee?",
    "Write a slogan for an eco-friendly shoe brand.",
    "Correct the grammar in my essay.",
    "Refactor this class to use dependency injection.",
    "I feel lonely today and just want to talk.",
    "Imagine you are a detective in a noir film and describe your office.",
    "Write lyrics for a love song.",
    "Turn these notes into a bulleted list.",
    "How would you design a logo for a coffee shop?",
    "Thanks, that was helpful!",
    "Write unit tests for the following method.",
];
