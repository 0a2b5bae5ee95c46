//! The `modality` signal: whether words, a picture or both are asked for.
//!
//! Beside whole phrases there are patterns, into each of which every subject is put: what a prompt is about is then
//! the same for all classes, and only what is asked for tells them apart.

use std::borrow::Cow;

use crate::classify::Unknown;
use crate::policy::{Modality, ModalitySignal};
use crate::signals::embeddings::ExampleEmbeddings;
use crate::signals::examples::{Class, ExampleBank, ExampleTask, Rest};
use crate::signals::findings::ClassifierFindings;
use crate::signals::inputs::SignalInputs;
use crate::signals::kind::{LearnedDetector, SignalDetector, SignalSpec};
use crate::signals::value::SignalValue;

pub(in crate::signals) static MODALITY: ExampleTask = ExampleTask {
    classes: &[
        Class::of("text", TEXT).with(TEXT_OF, SUBJECTS),
        Class::of("image", IMAGE).with(IMAGE_OF, SUBJECTS),
        Class::of("both", BOTH).with(BOTH_OF, SUBJECTS),
    ],
    temperature: 0.045,
    rest: Some(Rest { class: 0, min_cosine: 0.4 }),
};

fn class(modality: Modality) -> usize {
    match modality {
        Modality::Text => 0,
        Modality::Image => 1,
        Modality::Both => 2,
    }
}

impl SignalSpec for ModalitySignal {
    fn inputs(&self) -> SignalInputs {
        SignalInputs::EMBEDDING
    }

    fn examples(&self) -> Vec<Cow<'_, str>> {
        MODALITY.examples().collect()
    }

    fn detector(&self, embeddings: &ExampleEmbeddings<'_>) -> Result<SignalDetector, regex::Error> {
        Ok(SignalDetector::Learned(Box::new(ModalityDetector {
            bank: ExampleBank::new(&MODALITY, embeddings),
            matching: self.any.iter().map(|one| class(*one)).collect(),
            min_score: self.min_score.fraction(),
        })))
    }
}

#[derive(Debug)]
struct ModalityDetector {
    bank: ExampleBank,
    matching: Vec<usize>,
    min_score: f32,
}

impl LearnedDetector for ModalityDetector {
    fn evaluate(&self, found: &ClassifierFindings<'_>) -> Result<SignalValue, Unknown> {
        Ok(self.bank.value(found.embedding()?, &self.matching, self.min_score))
    }
}

/// What patterns are about.
const SUBJECTS: &[&str] =
    &["a dragon", "the solar system", "a coffee shop", "a heart", "an old sailor", "a garden"];

/// Patterns that ask for words; `{}` stands for the subject.
const TEXT_OF: &[&str] = &[
    "Write a poem about {}.",
    "Explain {} to me.",
    "Write a short story about {}.",
    "What is known about {}?",
    "Describe {} in a few sentences.",
    "How do I write about {}?",
    "Summarize the article about {}.",
    "Write an email about {}.",
    "Who invented {}?",
];

/// Patterns that ask for a picture.
const IMAGE_OF: &[&str] = &[
    "Draw {}.",
    "Generate an image of {}.",
    "Create a picture of {}.",
    "Make a photo of {}.",
    "Paint {} in oil.",
    "Design a logo with {}.",
    "Show me a picture of {}.",
    "{}, digital art, highly detailed",
    "Sketch {} in pencil.",
];

/// Patterns that ask for both.
const BOTH_OF: &[&str] = &[
    "Write about {} and illustrate it.",
    "Explain {} and include a diagram.",
    "Tell a story about {} and draw it.",
    "Describe {} and generate a picture of it.",
    "Write an article about {} with pictures.",
    "Give me a text about {} and an image of it.",
    "Create an illustrated guide to {}.",
    "Draw {} and write the text for it.",
    "Write a post about {} and make a cover photo.",
];

/// Words, among them words about pictures.
const TEXT: &[&str] = &[
    "Explain how a camera lens works.",
    "What is the capital of Norway?",
    "Write a poem about a sunset.",
    "Describe the Mona Lisa.",
    "How do I resize an image in Python?",
    "Who painted The Starry Night?",
    "Write a short story about a painter.",
    "Summarize this article for me.",
    "What does this picture show?",
    "Translate the following sentence into German.",
    "Why is the sky blue?",
    "Write a function that draws a circle on a canvas.",
    "What are the rules of photography composition?",
    "How do I take better photos at night?",
    "Describe a landscape in three sentences.",
    "Tell me a joke.",
    "What is the difference between JPEG and PNG?",
    "Give me tips for learning to draw.",
    "What is the integral of cosine?",
    "Write a product description for a poster.",
    "Read the text in this screenshot.",
    "Debug my image upload form.",
    "What colors go well with navy blue?",
    "Explain how diffusion models generate images.",
    "Write an email to my boss.",
    "List the planets of the solar system.",
    "Help me plan a trip to Rome.",
    "How does the stock market work?",
    "Write a text.",
    "Explain this to me.",
    "Answer my question.",
    "What is the meaning of this word?",
    "Write an essay about social media.",
    "Why do people dream?",
    "Write code for a web server.",
    "Give me a summary of the book.",
    "Write a story.",
    "Write a cover letter.",
    "How many people live in India?",
    "Explain the theory of relativity to a child.",
    "Write a limerick.",
    "Who built the pyramids?",
];

/// A picture.
const IMAGE: &[&str] = &[
    "Draw a cat wearing a hat.",
    "Generate an image of a futuristic city at night.",
    "Create a logo for my coffee shop.",
    "Make a picture of a mountain lake at sunrise.",
    "Paint a portrait of an old sailor in oil.",
    "I want a photo of a red sports car in the rain.",
    "Show me a picture of the Grand Canyon.",
    "Design a poster for a jazz festival.",
    "Sketch a medieval castle in pencil.",
    "Render a 3D model of a wooden chair.",
    "Create a watercolor of a garden full of roses.",
    "Generate a wallpaper with geometric shapes.",
    "Illustrate a fox in the forest, cartoon style.",
    "Make me an avatar that looks like a robot.",
    "Edit this photo and remove the background.",
    "A photorealistic shot of an astronaut on a horse, cinematic lighting, 4k",
    "Draw a diagram of the water cycle.",
    "Produce an image in the style of Van Gogh.",
    "Can you draw my dog as a superhero?",
    "Create an icon for a weather app.",
    "Make this picture brighter and add a rainbow.",
    "Generate artwork for an album cover.",
    "Design a book cover with a lighthouse.",
    "Paint me a surreal desert with floating clocks.",
    "Visualize a house made of glass in the woods.",
    "pixel art of a knight fighting a slime",
    "Give me an illustration of a whale under the stars.",
    "Turn my selfie into an anime character.",
    "Draw a picture.",
    "Generate an image.",
    "Create an illustration.",
    "Make me a drawing.",
    "Show me a photo.",
    "Paint a painting of a landscape.",
    "Sketch something for me.",
    "Create a photo of a dog.",
    "Draw a woman reading a book.",
    "I need a picture for my website.",
];

/// Words and a picture together.
const BOTH: &[&str] = &[
    "Write a story about a dragon and illustrate it.",
    "Explain the water cycle with text and draw a diagram of it.",
    "Create a recipe for lasagna with a picture of the finished dish.",
    "Write a blog post about Kyoto and generate a header image for it.",
    "Describe the solar system and include an illustration.",
    "Make a children's book page with text and a drawing.",
    "Write a product description and create a product photo.",
    "Give me a poem about winter together with a matching painting.",
    "Explain how a heart works and show me an image of it.",
    "Write an article about bees with pictures.",
    "Create a social media post: a caption and an image.",
    "Tell me about the Eiffel Tower and draw it.",
    "Design a poster and write the text that goes with it.",
    "Write a travel guide to Peru with illustrations.",
    "Draw a comic with dialogue and explain the plot.",
    "Generate a picture of a castle and write its history.",
    "Explain photosynthesis step by step, with an illustration for each step.",
    "Create a character for my game: a portrait and a backstory.",
    "Write a short fairy tale and add a picture for every scene.",
    "Make an infographic about sleep and summarize it in words.",
    "Describe this bird species and generate a photo of it.",
    "Write a menu for my restaurant and draw the dishes.",
    "Tell a bedtime story and paint the main character.",
    "Give me a workout plan with images of each exercise.",
    "Prepare a slide about volcanoes with a picture and three bullet points.",
    "Write a newspaper article and generate a photo to go with it.",
    "Write a text and illustrate it.",
    "Explain it in words and pictures.",
    "Give me an answer with text and an image.",
    "Write something and draw a picture to go with it.",
    "Create an illustrated guide.",
    "Include an illustration with your explanation.",
    "Tell me a story with pictures.",
    "Describe it and show me an image of it as well.",
];
