//! Phrases that had no part in the choice of examples, floors and temperatures, to measure how well those judge.

pub(super) const NEEDED: &[&str] = &[
    "What is the freezing point of mercury?",
    "Who composed The Four Seasons?",
    "How many bones are in the human body?",
    "When was the first iPhone released?",
    "Can dogs eat chocolate safely?",
    "Which is the largest desert on Earth?",
    "What does the liver do?",
    "In which year did Brazil abolish slavery?",
    "Is it legal to record phone calls in Germany?",
    "Who is the chief executive of Toyota?",
    "How long is the Great Wall of China?",
    "What percentage of the atmosphere is nitrogen?",
    "Did Einstein fail mathematics at school?",
    "What led to the French Revolution?",
    "How does a nuclear reactor produce electricity?",
    "Which vitamins are soluble in fat?",
];

pub(super) const NOT_NEEDED: &[&str] = &[
    "Write a limerick about my lazy dog.",
    "Rephrase this sentence to be more formal.",
    "Sort this list of numbers for me.",
    "You are a friendly robot; introduce yourself.",
    "Give me a catchy headline for my newsletter.",
    "Translate the following paragraph into Polish.",
    "Good evening!",
    "Multiply 23 by 17.",
    "Why do I get a null pointer exception in this method?",
    "Write a toast for my best friend's wedding.",
    "Continue the story where the knight enters the cave.",
    "What should I get my father for his birthday?",
    "Check my text for spelling mistakes.",
    "Write a bash script that renames all files in a folder.",
    "Outline a training schedule for my first marathon.",
    "Act as my language teacher and quiz me.",
];

pub(super) const SATISFIED: &[&str] = &[
    "Fantastic, thanks for your help!",
    "Great, it works like a charm.",
    "That's correct, thank you.",
    "Very good explanation, I get it.",
    "Thanks, problem solved.",
    "I like this version a lot.",
    "Exactly what I wanted.",
    "Thank you, that was quick and clear.",
    "Ok, that fixed it.",
    "Wow, really helpful.",
];

pub(super) const NEED_CLARIFICATION: &[&str] = &[
    "Can you clarify what you mean by that?",
    "I don't follow, please explain once more.",
    "What does this term mean?",
    "Could you explain the third point in more detail?",
    "That is confusing to me.",
    "Explain it in plain English, please.",
    "How exactly does that work? I don't understand.",
    "Can you walk me through it step by step?",
    "Which part are you talking about?",
    "I'm having trouble understanding your explanation.",
];

pub(super) const WRONG_ANSWER: &[&str] = &[
    "That's wrong, look again.",
    "This is not the right result.",
    "I ran your code and it throws an exception.",
    "No, it was not 1945, you have the wrong year.",
    "Your answer contains an error.",
    "The method you used doesn't exist.",
    "You are wrong about that.",
    "It still does not work.",
    "The total is incorrect.",
    "That statement is false.",
];

pub(super) const WANT_DIFFERENT: &[&str] = &[
    "Give me a different one.",
    "Can you write it in a friendlier tone?",
    "Show me other options, please.",
    "I would rather have something simpler.",
    "Make a longer version.",
    "Let's try another approach.",
    "Could you come up with some alternatives?",
    "Rewrite the ending in another way.",
    "That's not my taste, suggest something else.",
    "Please use bullet points instead.",
];

pub(super) const NONE: &[&str] = &[
    "What is the tallest building in Dubai?",
    "Write a function that parses dates.",
    "I am planning a trip to Norway in June.",
    "How do vaccines work?",
    "Send a reminder to the whole team.",
    "Who directed Jaws?",
    "Next, create the user table.",
    "How much does a new roof cost?",
    "My daughter is seven years old.",
    "Compare electric cars and hybrids.",
];

pub(super) const TEXT: &[&str] = &[
    "How do I change the contrast of a photo in Photoshop?",
    "What is compound interest?",
    "Write a sonnet about rain.",
    "Who was Frida Kahlo?",
    "Explain blockchain to my grandmother.",
    "What is written on the sign in this picture?",
    "Which gallery shows Guernica?",
    "Summarize Moby Dick for me.",
    "What resolution do I need for printing?",
    "Write a job advert for an illustrator.",
    "How many legs does a spider have?",
    "Write a speech for my retirement party.",
];

pub(super) const IMAGE: &[&str] = &[
    "Draw a sailing ship in heavy seas.",
    "Generate an image of a robot reading a newspaper.",
    "Create a modern logo for a bakery.",
    "I want a picture of a tiger in the jungle.",
    "Paint a field of sunflowers in an impressionist style.",
    "Make a photo of a burger with fries.",
    "an ancient temple at dawn, fog, concept art",
    "Sketch my cat sleeping on a sofa.",
    "Design a sticker with a happy avocado.",
    "Please generate a photo of a snowy village.",
    "Illustrate a pirate with a parrot.",
    "Create wallpaper art with waves.",
];

pub(super) const BOTH: &[&str] = &[
    "Write a tale about a bear and draw the bear.",
    "Explain how volcanoes erupt and add a diagram.",
    "Give me a recipe for sushi with a photo of it.",
    "Create an illustrated introduction to astronomy.",
    "Write a blog post about gardening and generate a header picture.",
    "Tell me the legend of King Arthur with illustrations.",
    "Describe a spaceship and show me an image of it.",
    "Make a greeting card: write the verse and draw the front.",
    "Write a fact sheet about penguins and include a picture.",
    "Write a poem about autumn and paint a picture for it.",
];
