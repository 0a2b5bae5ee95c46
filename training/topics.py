"""What people ask about, by subject: topics, and words for a few typical requests. For training only.

None of the prompts of a test set is in here.
"""


def listed(text, mark=";"):
    """Splits a written list."""
    return tuple(part.strip() for part in text.replace("\n", " ").split(mark) if part.strip())


TOPICS = {
    name: listed(text)
    for name, text in {
        "computer science": """
        Unix; FreeBSD; a Linux distribution; the Android operating system; open source software; an operating system kernel; PostgreSQL;
        the GNU compiler; Firefox; a package manager; Java; a web browser; the Apache web server; virtual memory; a device driver; JavaScript;
        a neural network; a binary search tree; a microservice; an API gateway; the C language; free software; a file system; cloud computing;
        a load balancer; public key encryption; a garbage collector; the shell; Windows; an open source licence on GitHub; a hash table; quicksort;
        a deadlock; TCP handshakes; REST endpoints; GraphQL; a Python decorator; a C++ template; Rust's borrow checker; a regular expression;
        git rebase; a merge conflict; a Docker image; Terraform; a CI pipeline; a unit test; null pointers; recursion depth; dynamic programming;
        Dijkstra's algorithm; a bloom filter; a B-tree index; an ORM; a left join; transactions and isolation; sharding; Redis; message queues;
        websockets; CSS flexbox; React hooks; TypeScript generics; an async function; threads and locks; a stack overflow; floating point rounding;
        Unicode and UTF-8; big O notation; a Turing machine; P versus NP; compilers; linkers; an API rate limit; OAuth tokens; TLS certificates;
        a firewall; DNS records; a virtual machine; reinforcement learning; a transformer model; overfitting; backpropagation; a GPU kernel;
        cache misses; page faults; cron jobs; bash scripts; log rotation; a pandas dataframe; JSON parsing; XML; spreadsheets formulas; Android apps;
        a Django view; Spring beans""",
        "math": """
        a matrix; the quadratic formula; a prime factor; a logarithm; the chain rule; a polynomial; long division; a fraction; an integral;
        a vector space; the normal distribution; a proof by induction; a limit; a geometric series; complex numbers; modular arithmetic;
        a differential equation; Bayes' theorem; a confidence interval; eigenvalues; the determinant; a Taylor series; partial fractions;
        the binomial theorem; Pythagoras' theorem; the sine rule; a quadratic inequality; simultaneous equations; percentages;
        the least common multiple; permutations and combinations; a Venn diagram; the mean and the median; standard deviation;
        linear regression by hand; a Markov chain; group theory; a ring homomorphism; topology; graph colouring; prime numbers;
        the Fibonacci sequence; pi; infinity; the area of a circle; the volume of a cone; unit conversion of fractions; Euler's identity;
        Fourier series; a Laplace transform; vectors and dot products; convexity; set theory; probability of two dice; a hypothesis test;
        sequences that converge; the square root of 2; polar coordinates; truth tables; matrix inversion; the golden ratio; a surface integral;
        Lagrange multipliers; word problems about ages; compound fractions; logarithmic scales; rounding rules; a number line""",
        "physics": """
        gravity; a laser; special relativity; friction; a magnetic field; the speed of sound; kinetic energy; a neutron star; refraction;
        an electron's spin; entropy; momentum; a pendulum; Newton's laws; quantum tunnelling; the photoelectric effect; black holes;
        wave interference; the Doppler effect; a rainbow; why the sky is blue; nuclear fission; radioactive half-life; superconductivity;
        centripetal force; projectile motion; torque; Ohm's law in a physics lab; electric charge; magnetism; light years; the Big Bang; dark matter;
        a lens; sound waves; resonance; buoyancy; pressure in a fluid; thermal expansion; absolute zero; time dilation; Schrodinger's cat;
        the Higgs boson; a photon; gravitational waves; escape velocity; free fall; tides; conservation of energy; elastic collisions;
        a capacitor's field; Heisenberg's uncertainty principle; plasma; stars and fusion; the speed of light; mass and weight;
        a spring's oscillation; vacuum; heat radiation; static electricity; a telescope; antimatter; orbits of planets""",
        "chemistry": """
        an acid; a covalent compound; the periodic table; oxidation; a polymer; distillation; an ester; a buffer solution; electrolysis; ammonia;
        a mole; activation energy; a ligand; pH; a titration; stoichiometry; the ideal gas constant in a reaction; catalysts; isomers; alkenes;
        benzene; hydrogen bonds; ionic crystals; electronegativity; rusting of iron; baking soda and vinegar; combustion of methane; chromatography;
        a redox reaction; Le Chatelier's principle; enthalpy of formation; molarity; noble gases; halogens; transition metals; soaps and detergents;
        esters and smells; fermentation to ethanol; crystallisation; precipitates; a Lewis structure; hybrid orbitals; oxidation numbers;
        valence electrons; solubility rules; equilibrium constants; reaction rates; bleach and ammonia; plastics like PET; the smell of chlorine;
        copper sulfate; nitric acid; carbon dioxide in water; isotopes in chemistry; a galvanic cell; nylon; sulfur; aspirin synthesis; chirality;
        NMR spectra; balancing equations; caffeine's structure; limestone and acid""",
        "biology": """
        DNA; a ribosome; an enzyme; osmosis; a virus; the food chain; a chromosome; fungi; cell division; an ecosystem; a vertebrate; symbiosis;
        the immune system of insects; photosynthesis; mitosis and meiosis; natural selection; genetic drift; Mendel's peas; a mutation; RNA;
        protein folding; mitochondria; cell membranes; bacteria; the nitrogen cycle; pollination; how plants drink; bird migration; whales;
        dinosaurs; the human genome; hormones in animals; neurons; the heart of a frog; stomata; taxonomy; endangered species; coral reefs;
        predators and prey; a food web; stem cells; CRISPR; cloning; blood cells; the kidney's anatomy; insects; spiders; octopus brains; bees;
        mushrooms; lichens; evolution of eyes; why leaves turn red; hibernation; gills; chlorophyll; dominant alleles; parasites; biodiversity;
        a petri dish; enzymes in digestion; marine biology; fossils""",
        "engineering": """
        a gearbox; a transistor amplifier; reinforced concrete; a heat exchanger; a turbine; a truss; a voltage regulator; an induction motor;
        hydraulics; welding; a centrifugal pump; a bearing; a suspension bridge; steel beams; a gearbox ratio; PID controllers; an op-amp; a diode;
        a stepper motor; three-phase power; a circuit breaker; PCB layout; soldering; a boiler; a jet engine; wing lift in aircraft design;
        stress and strain; fatigue in metals; concrete mixes; foundations of a tower; HVAC sizing; a heat pump; pipes and pumps; valves; CNC milling;
        3D printing tolerances; bearings; a clutch; hydraulic brakes; wind turbines; solar inverters; battery packs; signal filters; antennas;
        modulation; radar; sensors for robots; a dam; tunnels; soil mechanics; sewage treatment; a crane; elevators; a diesel engine; turbochargers;
        the load of a column; welding joints; reliability of machines; FPGA design; a servo; transformers in substations; vibration damping""",
        "economics": """
        inflation; a monopoly; the central bank; fiscal policy; aggregate demand; an exchange rate; a recession; a public good; a trade deficit;
        game theory in markets; a price ceiling; supply and demand; GDP; unemployment; opportunity cost; elasticity; interest rates;
        quantitative easing; the gold standard; comparative advantage; tariffs; a minimum wage; externalities; the Gini coefficient; a subsidy;
        deflation; the Phillips curve; Keynes; free trade; perfect competition; an oligopoly; moral hazard in economics; the money supply;
        government debt; the IMF; purchasing power; rent control; a carbon tax; the tragedy of the commons; marginal utility; business cycles;
        consumer surplus; sanctions; currency devaluation; income inequality; the housing bubble; stagflation; the World Bank; a sales tax's burden;
        labour markets; oil prices; the Laffer curve; productivity growth; utility functions; a Nash equilibrium between firms; monopsony;
        economic growth; poverty traps; bond yields and the Fed; capital flows; price discrimination""",
        "business": """
        a brand; market segmentation; a balance sheet; cash flow; outsourcing; customer retention; a joint venture; human resources; a franchise;
        project management; a sales funnel; a business plan; a SWOT analysis; pricing a product; cash flow forecasts; an elevator pitch; a start-up;
        venture capital; profit margins; a marketing campaign; brand loyalty; social media ads; customer churn; sales targets;
        a job interview for managers; employee motivation at work; performance reviews; hiring; layoffs; supply chains; inventory; procurement;
        a merger; bookkeeping; depreciation; invoices; break-even points; KPIs; OKRs; a product launch; market research; negotiation with suppliers;
        leadership; teamwork in the office; remote work policy; a trade fair; e-commerce; dropshipping; SEO; an online shop; a quarterly report;
        shareholders; dividends; an IPO; corporate strategy; change management; agile for managers; a newsletter for customers; B2B sales;
        a restaurant business; franchising costs; an annual budget; payroll; net present value; a loan for my company; customer complaints""",
        "law": """
        a tort; the presumption of innocence; a patent; an injunction; the supreme court; bail; a class action; due process; custody of a child;
        a trademark; perjury; a plea bargain; a contract; breach of contract; negligence; divorce; a will; inheritance; rent law; eviction;
        a non-disclosure agreement; trade secrets; copyright; defamation; GDPR; consumer rights; a warranty claim; speeding tickets;
        a criminal record; burglary; self-defence in court; a jury; hearsay; the fifth amendment; constitutional rights; immigration visas;
        employment contracts; wrongful dismissal; parental custody; alimony; a power of attorney; liability; bankruptcy filing; small claims court;
        an appeal; treaties; human rights law; extradition; maritime law; easements; zoning; adoption papers; parking fines; a search warrant; bail;
        habeas corpus; statutes; precedent; judges; a subpoena; arbitration; fraud charges; my boss not paying overtime; a neighbour's fence;
        product liability""",
        "history": """
        the Renaissance; the Mongol Empire; the Cold War; the Industrial Revolution; feudalism; the Aztecs; the Black Death;
        the Treaty of Versailles; the Byzantine Empire; the Crusades; World War I; World War II; the French Revolution; Napoleon; Julius Caesar;
        ancient Egypt; the Roman Republic; Alexander the Great; the Ottoman Empire; the Silk Road; the Ming dynasty; Genghis Khan;
        the American Civil War; Abraham Lincoln; slavery; colonialism; the Inca; Columbus; Magellan; the Magna Carta; Henry VIII; Queen Victoria;
        the Russian Revolution; Lenin; Stalin; the Berlin Wall; the Vietnam War; the Cuban missile crisis; Gandhi; apartheid; the moon landing;
        the Great Depression years; the Reformation; Martin Luther; the Vikings; knights; samurai; the Trojan War; Sparta; Pericles; Cleopatra;
        the Norman conquest; the Hundred Years' War; the Spanish Armada; the Boston Tea Party; D-Day; the League of Nations; the Stone Age;
        Mesopotamia; the printing press; medieval peasants; the fall of Constantinople""",
        "philosophy": """
        nihilism; the social contract; Hume's problem of induction; Socrates; ethics; dualism; Nietzsche; empiricism; a logical fallacy;
        the meaning of life; virtue; epistemology; Plato's cave; Aristotle; Kant's categorical imperative; utilitarianism; Descartes; free will;
        determinism; the trolley problem; existentialism; Sartre; Camus; Stoicism; Buddhism; Taoism; Confucius; Hegel; Marx as a philosopher;
        Wittgenstein; Spinoza; Leibniz; Locke; Rousseau; Hobbes; the ontological argument; the problem of evil; personal identity; consciousness;
        the ship of Theseus; moral relativism; deontology; virtue ethics; justice; Rawls; nihilism; solipsism; scepticism; truth; beauty;
        logic and arguments; ad hominem; begging the question; straw men; the afterlife; faith and reason; religion; Hinduism; Islam's five pillars;
        agnosticism; pragmatism; phenomenology; Simone de Beauvoir; absurdism; happiness in Epicurus; the golden rule; animal rights as ethics""",
        "psychology": """
        memory; the placebo effect on the mind; introversion; a phobia; group think; motivation; the unconscious; emotional intelligence;
        cognitive dissonance; a personality test; reinforcement; Freud; Jung; Pavlov's dogs; Skinner; attachment theory; Piaget; Maslow;
        depression as a diagnosis; anxiety; ADHD; autism; OCD; bipolar disorder; schizophrenia; trauma; therapy; CBT; burnout; procrastination;
        self-esteem; habits; dreams; memory loss; attention; perception; optical illusions; the bystander effect; conformity; Milgram's experiment;
        stereotypes; persuasion of people; body language; emotions; anger; grief; loneliness; love and attraction; jealousy; child development;
        teenagers' behaviour; intelligence tests; the Big Five; narcissism; addiction as behaviour; sleep and dreaming; stress at school;
        mindfulness; the amygdala; learning by reward; language acquisition; social anxiety; imposter syndrome; decision making; confidence;
        parenting styles""",
        "health": """
        a vaccine; high cholesterol; asthma; insulin; a balanced diet; an antibiotic; anaemia; a migraine; physiotherapy; blood sugar; dehydration;
        a sprained ankle; sleep hygiene; a headache; back pain; a fever; the flu; COVID; a cough; high blood pressure; diabetes; cancer screening;
        a heart attack; stroke symptoms; pregnancy; breastfeeding; a baby's teeth; acne; eczema; allergies; hay fever; antibiotics; ibuprofen;
        paracetamol doses; vitamins; iron deficiency; protein intake; losing weight; calories; intermittent fasting; a keto diet; running injuries;
        knee surgery; physiotherapy; blood tests; thyroid problems; menopause; contraception; HIV; vaccines for children; malaria; food poisoning;
        heartburn; constipation; kidney stones; a dentist visit; eye strain; hearing loss; insomnia; sunburn; a bee sting; first aid; CPR;
        broken bones; smoking; alcohol and the liver; ageing joints; a cold; nutrition labels; cholesterol; stretching; hygiene;
        medication side effects""",
        "other": """
        a football match; my holiday in Spain; a love song; gardening; knitting; a board game; a haircut; my cat; the weekend; a camping trip;
        a comic book; a dinner party; makeup; a holiday in Italy; cheap flights; hotels in Paris; the weather; a birthday party; a wedding speech;
        gift ideas; a recipe for lasagne; baking bread; coffee; wine; football; the Olympics; chess openings; video games; Minecraft; movies;
        a TV series; pop music; guitar chords; painting; photography; fashion; shoes; haircuts; dogs; cats; goldfish; house plants;
        cleaning the kitchen; moving house; furniture; a used car; tyres; bicycles; camping; hiking; knitting; origami; a poem; a song; jokes;
        riddles; small talk; horoscopes; celebrities; Harry Potter; Star Wars; geography of Africa; capitals of countries; rivers; flags;
        learning Spanish; translating a sentence; grammar; spelling; crosswords; trivia; the news; dating; my neighbour; restaurants nearby;
        alarms and reminders; a playlist; shopping; traffic; timers; tonight's dinner; airports; accounting standards; journalism; demography""",
    }.items()
}

# Requests, and what may stand in place of {0}, {1}, {2}, {3} and {4}.
REQUESTS = {
    name: (listed(forms), tuple(listed(words, "|") for words in places))
    for name, (forms, places) in {
        "computer science": (
            """
        write a function that {0}; fix this bug: {1}; why does my code {2}; {3} in python; how do I {0} in javascript; one-liner to {0};
        write a script to {0}; my program says {1}, what now""",
            (
                "reverse a linked list|parse a CSV file|sort dicts by value|remove duplicates|merge two lists|count words in a file|read stdin|call an API|group rows by month|find the longest substring|validate an e-mail|retry a request",
                "segmentation fault|undefined is not a function|connection refused|KeyError: 'id'|out of memory|cannot borrow as mutable|module not found|permission denied (publickey)",
                "hang|leak memory|return None|run so slowly|crash on startup|print the wrong order",
                "list comprehension|string formatting|date parsing|multiprocessing|type hints|sorting a dict",
            ),
        ),
        "business": (
            """
        draft a {0} for our {1}; write a proposal to {2}; how do I {3}; help me {3}; prepare a {0} about our {1}""",
            (
                "press release|pitch deck|mission statement|job advert|sales mail|project plan|contract offer|slide deck|budget",
                "new product|bakery|consulting firm|app|hotel|shop|agency|delivery service",
                "investors|our board|a new client|the bank|a supplier",
                "raise prices without losing customers|hire a sales manager|register a company|reduce costs|grow my shop|forecast revenue|read a balance sheet|retain staff|expand abroad",
            ),
        ),
        "law": (
            """
        can I be {0} for {1}?; is it legal to {2}?; what happens if I {3}; do I need a lawyer to {2}; what are my rights when {1}""",
            (
                "sued|arrested|fined|fired|deported",
                "posting a review|unpaid rent|a bar fight|downloading films|driving without insurance|the police search my car|my landlord enters my flat",
                "record a phone call|sublet my flat|sell home-made food|fly a drone over houses|break a lease|copy a book",
                "ignore a court letter|die without a will|sign under pressure|miss a payment|violate a patent",
            ),
        ),
        "health": (
            """
        is {0} dangerous?; how much {1} per day; what helps against {2}; should I see a doctor for {2}?; can I take {1} with {3};
        how long does {2} last""",
            (
                "a mole that changes|fainting|a fever of 40|chest pain|numb fingers|a swollen ankle",
                "aspirin|magnesium|caffeine|salt|fibre|water|zinc|insulin",
                "a sore throat|dizziness|a stomach ache|cramps|dry skin|nosebleeds|a hangover|lower back pain|migraine",
                "alcohol|antibiotics|blood thinners|food|milk",
            ),
        ),
        "history": (
            """
        when did {0} happen; who was {1}; why did {0} start; who led {2}; what caused {0}?; what year was {0}; who won {3}""",
            (
                "the Thirty Years' War|the Irish famine|the fire of Rome|the Meiji restoration|the Crimean War|the Partition of India|the Peloponnesian War|the Prague Spring|the Opium Wars|the gold rush",
                "Otto von Bismarck|Joan of Arc|Saladin|Catherine the Great|Simon Bolivar|Tutankhamun|Charlemagne|Winston Churchill|Hannibal|Spartacus",
                "the Bolsheviks|the Confederate army|the Carthaginians|the Zulu|the suffragettes",
                "the battle of Waterloo|the Punic Wars|the battle of Marathon|the Boer War|the siege of Vienna|the battle of Agincourt",
            ),
        ),
        "psychology": (
            """
        why do people {0}; how can I stop {1}; why am I so {2}; how does {3} influence behaviour""",
            (
                "lie|follow the crowd|fear spiders|forget names|dream|procrastinate|bite their nails|like sad music|blush",
                "overthinking|comparing myself to others|being shy|binge watching|worrying",
                "nervous before exams|forgetful|unmotivated|jealous|angry at small things|afraid of heights",
                "childhood|peer pressure|colour|priming|reward|group size",
            ),
        ),
        "engineering": (
            """
        how do I size {0}; which {1} for {2}; design {0} for {2}; calculate the {3} of {0}; tolerance of {1}""",
            (
                "a cable|a footing|a relief valve|a flywheel|a heat sink|a gear pair|a pressure vessel|a ventilation duct|a roof truss|a solar array|a low-pass filter",
                "steel grade|bolt class|O-ring|fuse|wire gauge|bearing|capacitor|relay",
                "a 5 kW motor|a 12 V supply|a footbridge|a conveyor|a wet room|a drone|high vibration",
                "deflection|efficiency|safety factor|flow rate|torque|current rating|bending moment",
            ),
        ),
        "economics": (
            """
        what happens to {0} when {1} rises; how does {2} affect {0}; why do {3} {4}""",
            (
                "employment|exports|consumption|house prices|the exchange rate|real wages|savings",
                "the interest rate|the price of oil|the tax rate|government spending|inflation",
                "immigration|automation|a tariff|public debt|an ageing population|a strike",
                "countries|firms|households|central banks",
                "trade|save less|print money|form cartels|default|invest abroad",
            ),
        ),
        "biology": (
            """
        how do {0} {1}; why do {0} {1}; what is the function of {2}; where in the cell is {3}""",
            (
                "plants|bats|snakes|yeasts|ants|sharks|frogs|cells|viruses|ferns|penguins",
                "reproduce|breathe|find food|divide|survive the winter|see in the dark|regrow|move|communicate|produce energy",
                "the nucleus|the spleen|cilia|xylem|red blood cells|ribosomes|antennae|the pancreas in mammals",
                "ATP made|DNA stored|the protein sorted|glucose broken down",
            ),
        ),
        "chemistry": (
            """
        what happens when {0} reacts with {1}; balance {0} + {1}; formula of {2}; is {2} an acid or a base; boiling point of {2}; why does {2} {3}""",
            (
                "sodium|zinc|hydrochloric acid|copper|magnesium|ethanol|iron|calcium carbonate|hydrogen",
                "oxygen|water|nitric acid|chlorine|sulfuric acid|silver nitrate|sodium hydroxide",
                "ethanol|acetic acid|ammonia|table salt|acetone|glucose|methane|hydrogen peroxide|sodium bicarbonate",
                "smell|burn blue|fizz|turn green|decompose|conduct electricity|evaporate so fast",
            ),
        ),
        "physics": (
            """
        how fast does {0} {1}; why does {0} {1}; what is the {2} of {0}; how much energy has {0}; explain why {0} {1}""",
            (
                "a falling stone|light|a bouncing ball|a satellite|a spinning top|a magnet|an electron|a rocket|ice on a wire|a hot air balloon|the Moon",
                "slow down|float|bend|keep its orbit|lose energy|rise|travel in glass|not fall over|attract iron|reflect",
                "momentum|wavelength|acceleration|potential energy|frequency|period|temperature",
            ),
        ),
        "philosophy": (
            """
        is it wrong to {0}?; did {1} believe in {2}?; what would {1} say about {2}; is {2} real?; argue for and against {0}""",
            (
                "lie to save a life|eat meat|steal bread when hungry|break a promise|clone people|punish the innocent|be selfish",
                "Socrates|Hume|Nietzsche|Epictetus|Kierkegaard|Heidegger|Aquinas|Plato",
                "free will|the soul|God|objective truth|evil|the self|fate|knowledge",
            ),
        ),
    }.items()
}
