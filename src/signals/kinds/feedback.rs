//! The `feedback` signal: what users say of an answer, and what they say instead of anything about it.

use std::borrow::Cow;

use crate::classify::Unknown;
use crate::policy::{Feedback, FeedbackSignal};
use crate::signals::embeddings::ExampleEmbeddings;
use crate::signals::examples::{Class, ExampleBank, ExampleTask, Rest};
use crate::signals::findings::ClassifierFindings;
use crate::signals::inputs::SignalInputs;
use crate::signals::kind::{LearnedDetector, SignalDetector, SignalSpec};
use crate::signals::value::{SignalReason, SignalValue};

pub(in crate::signals) static FEEDBACK: ExampleTask = ExampleTask {
    classes: &[
        Class::of("satisfied", SATISFIED),
        Class::of("need_clarification", NEED_CLARIFICATION),
        Class::of("wrong_answer", WRONG_ANSWER),
        Class::of("want_different", WANT_DIFFERENT),
        Class::of("none", NONE),
    ],
    temperature: 0.035,
    rest: Some(Rest { class: 4, min_cosine: 0.25 }),
};

fn class(feedback: Feedback) -> usize {
    match feedback {
        Feedback::Satisfied => 0,
        Feedback::NeedClarification => 1,
        Feedback::WrongAnswer => 2,
        Feedback::WantDifferent => 3,
    }
}

impl SignalSpec for FeedbackSignal {
    fn inputs(&self) -> SignalInputs {
        SignalInputs { all_texts: true, ..SignalInputs::EMBEDDING }
    }

    fn examples(&self) -> Vec<Cow<'_, str>> {
        FEEDBACK.examples().collect()
    }

    fn detector(&self, embeddings: &ExampleEmbeddings<'_>) -> Result<SignalDetector, regex::Error> {
        Ok(SignalDetector::Learned(Box::new(FeedbackDetector {
            bank: ExampleBank::new(&FEEDBACK, embeddings),
            matching: self.any.iter().map(|one| class(*one)).collect(),
            min_score: self.min_score.fraction(),
        })))
    }
}

#[derive(Debug)]
struct FeedbackDetector {
    bank: ExampleBank,
    matching: Vec<usize>,
    min_score: f32,
}

impl LearnedDetector for FeedbackDetector {
    /// There is feedback only where there is an answer.
    fn evaluate(&self, found: &ClassifierFindings<'_>) -> Result<SignalValue, Unknown> {
        if !found.follows_answer {
            return Ok(SignalValue::plain(false, SignalReason::Text("no answer before".into())));
        }
        Ok(self.bank.value(found.embedding()?, &self.matching, self.min_score))
    }
}

/// The answer was good.
const SATISFIED: &[&str] = &[
    "Thanks, that's exactly what I needed.",
    "Perfect, thank you!",
    "Great answer, that helped a lot.",
    "Awesome, it works now.",
    "That makes sense, thanks.",
    "Thank you so much, you saved me hours.",
    "Yes, that's right.",
    "Brilliant, this is just what I was looking for.",
    "Good job, I really like it.",
    "Nice, I understand it now.",
    "That solved my problem, cheers.",
    "Wonderful explanation, thank you.",
    "Got it, thanks for the help.",
    "Great, that did the trick.",
    "Love it, no changes needed.",
    "Thanks, that clears everything up.",
    "Excellent, that is very helpful.",
    "It runs without errors now, thank you.",
    "You're the best, thanks again.",
    "Okay great, that answers my question.",
    "Correct, well done.",
    "Super, I will use that.",
    "This is really good, I'm happy with it.",
    "That was a very clear answer.",
];

/// The answer was not clear.
const NEED_CLARIFICATION: &[&str] = &[
    "I don't understand, what do you mean?",
    "Can you explain that in simpler terms?",
    "What do you mean by that last part?",
    "Could you clarify the second step?",
    "I'm confused, can you go over it again?",
    "Sorry, I didn't get that.",
    "Can you explain it like I'm five?",
    "What does that word mean in this context?",
    "I'm not sure I follow you.",
    "Could you elaborate on that point?",
    "How did you get from the first line to the second?",
    "That's too complicated for me, can you break it down?",
    "Which one are you referring to?",
    "Can you explain why that is?",
    "Wait, I'm lost. Can you explain slowly?",
    "What exactly is the difference you are talking about?",
    "Can you give an example of what you mean?",
    "It's not clear to me how this works.",
    "Please explain in more detail, I don't get it.",
    "Huh? What does that mean?",
    "I still don't understand why.",
    "Could you spell out the part about the parameters?",
    "Can you be more specific?",
    "Where does that number come from?",
];

/// The answer was wrong.
const WRONG_ANSWER: &[&str] = &[
    "No, that's wrong.",
    "That's not correct, please check again.",
    "You made a mistake in the calculation.",
    "This answer is incorrect.",
    "That's not true.",
    "Your code doesn't work, I get an error.",
    "It still throws the same exception.",
    "You got the date wrong.",
    "That is simply false.",
    "Are you sure? I think that's a mistake.",
    "The result should be 12, not 14.",
    "That's not what happened, you made it up.",
    "No, you misunderstood the facts.",
    "This function does not exist, you invented it.",
    "That didn't work.",
    "Wrong again, try once more.",
    "I tried it and it fails.",
    "You contradict what you said before.",
    "That link is broken and the source isn't real.",
    "The answer you gave is not right.",
    "You forgot a negative sign, so the result is off.",
    "There is an error in your second step.",
    "It doesn't compile.",
    "Incorrect, the capital is a different city.",
];

/// Something else is wanted.
const WANT_DIFFERENT: &[&str] = &[
    "Can you try a different approach?",
    "Give me another option.",
    "I don't like it, write a new one.",
    "Show me something else.",
    "Can you make it shorter?",
    "Do you have any other suggestions?",
    "Rewrite it in a more formal tone.",
    "Not quite what I wanted, give me an alternative.",
    "Give me a different version.",
    "Can you do it another way?",
    "Make it less technical.",
    "I'd prefer something more modern.",
    "Try again with a different style.",
    "Can you suggest others? I don't like these.",
    "That's too long, please cut it down.",
    "Could you do it in a table instead?",
    "Regenerate that with more humor.",
    "I was hoping for something more creative.",
    "Use another language instead of Python.",
    "What are some alternatives?",
    "Give me five more.",
    "Change the ending, please.",
    "Let's go with a different idea.",
    "Make it sound more casual.",
];

/// No feedback: the conversation goes on.
const NONE: &[&str] = &[
    "What is the capital of Portugal?",
    "Now write a function that sorts the list.",
    "How do I install Docker on Ubuntu?",
    "And what about the weather in Berlin tomorrow?",
    "Translate the text into French.",
    "Write an email to my landlord about the broken heater.",
    "Next question: who painted the Mona Lisa?",
    "Tell me about the history of jazz.",
    "What is the derivative of x squared?",
    "My name is Anna and I live in Oslo.",
    "Here is the file you asked for.",
    "I have a budget of two thousand euros.",
    "Add a test for the login page.",
    "How many calories are in a banana?",
    "Recommend a restaurant near the station.",
    "Yes, use the second database.",
    "Now let's talk about my holiday in Greece.",
    "How long does it take to fly to Tokyo?",
    "Create a table of all planets with their sizes.",
    "What should I cook tonight?",
    "Okay, continue with the next chapter.",
    "Which laptop should I buy for video editing?",
    "Summarize the meeting notes.",
    "Book a table for four on Friday.",
    "Write a letter.",
    "Who was the first president?",
    "How do I learn to play the guitar?",
    "I live in a small town.",
    "Calculate the sum of these values.",
    "Which movie won the award?",
    "Rename the variable to count.",
    "Add another row to the table.",
];
