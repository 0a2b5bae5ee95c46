"""Questions of our own in twelve languages, one for each subject: by them layers were chosen and the confidence is set.

No head is trained on them; those that are measured are others (`tests/eval/domain_languages.jsonl`).
"""

CLASSES = (
    "biology", "business", "chemistry", "computer science", "economics", "engineering", "health", "history", "law", "math", "other",
    "philosophy", "physics", "psychology",
)  # fmt: skip

QUESTIONS = {
    "es": "¿Qué función tienen las mitocondrias? | ¿Cómo registro una marca para mi tienda en línea? | ¿Qué es un enlace iónico? | Explica qué es un puntero en C | ¿Qué es el producto interior bruto? | ¿Cómo funciona un motor diésel de cuatro tiempos? | ¿Cuánta agua hay que beber al día? | ¿Por qué empezó la guerra civil española? | ¿Qué diferencia hay entre hurto y robo en el código penal? | ¿Cuál es el área de un círculo de radio 4? | Escribe una felicitación de cumpleaños para mi hermana | ¿Qué es el estoicismo? | ¿Qué dice la segunda ley de Newton? | ¿Qué es el condicionamiento clásico?",
    "de": "Wozu brauchen Zellen Ribosomen? | Wie gründe ich eine GmbH und was kostet das? | Was ist ein Katalysator in einer Reaktion? | Wie sortiere ich ein Array in Rust? | Was bedeutet Grenznutzen? | Wie funktioniert eine Wärmepumpe im Altbau? | Hilft Vitamin C gegen Erkältung? | Wer war Karl der Große? | Wann verjährt eine Forderung nach BGB? | Wie viel ist 3/4 plus 2/5? | Erzähl mir einen Witz über Katzen | Was ist der Unterschied zwischen Ethik und Moral? | Wie groß ist die Gravitationskraft zwischen zwei Massen? | Warum haben Menschen Lampenfieber?",
    "fr": "À quoi sert l'ADN dans une cellule ? | Comment rédiger une stratégie commerciale pour une boulangerie ? | Qu'est-ce que le pH d'une solution ? | Comment annuler le dernier commit dans git ? | Pourquoi y a-t-il de l'inflation ? | Comment fonctionne une éolienne ? | Combien d'heures faut-il dormir par nuit ? | Qui était Jeanne d'Arc ? | Qu'est-ce qu'une clause de non-concurrence dans un contrat ? | Calcule la racine carrée de 144 | Raconte une histoire pour endormir ma fille | Que signifie « je pense donc je suis » ? | Qu'est-ce que l'effet Doppler ? | Qu'est-ce que l'effet placebo sur l'esprit ?",
    "pt": "Para que servem os glóbulos brancos? | Como negociar com fornecedores da minha loja? | O que é uma reação de oxidação? | Como fazer um laço for em C? | O que é o PIB de um país? | Como funciona um transformador elétrico? | Posso tomar antibiótico com álcool? | O que foi a Revolução dos Cravos? | Quantos dias de férias tenho direito pela CLT? | Resolva: 2x + 3 = 11 | Qual a melhor praia para viajar em família? | O que é o existencialismo? | O que é a velocidade da luz? | O que é ansiedade social?",
    "it": "A cosa servono i cloroplasti? | Come si apre una partita IVA per un'impresa? | Che cos'è una mole di sostanza? | Come si crea una tabella in SQL? | Che cos'è il debito pubblico? | Come funziona una turbina a gas? | Quali cibi fanno alzare il colesterolo? | Chi era Giuseppe Garibaldi? | Che cos'è l'usucapione? | Quanto fa 12 al quadrato? | Dammi un'idea per la cena di stasera | Che cos'è l'etica di Aristotele? | Perché un pendolo oscilla? | Che cos'è la memoria a breve termine?",
    "zh": "DNA是怎么复制的？ | 怎么给新产品定价？ | 什么是氧化还原反应？ | 什么是哈希表？ | 什么是边际成本？ | 变压器是怎么工作的？ | 高血压不能吃什么？ | 唐朝是怎么灭亡的？ | 什么是正当防卫？ | 三角形内角和是多少？ | 帮我写一首关于春天的诗 | 什么是存在主义？ | 牛顿第一定律是什么？ | 什么是安慰剂效应？",
    "ja": "遺伝子とは何ですか？ | 会社の決算書の読み方を教えて | モル濃度の計算方法は？ | Gitでブランチを統合するには？ | インフレとは何ですか？ | ディーゼルエンジンの仕組みは？ | 熱中症の予防法を教えてください | 織田信長は何をした人ですか？ | 著作権はいつ切れますか？ | 円の面積の求め方は？ | 今夜の夕食のおすすめは？ | 功利主義とは何ですか？ | 相対性理論を簡単に説明して | 記憶はどうして薄れるの？",
    "ko": "세포 분열은 어떻게 일어나나요? | 회사의 재무제표를 어떻게 읽나요? | 산화와 환원의 차이는? | 파이썬에서 딕셔너리를 정렬하는 방법 | 수요와 공급의 법칙이 뭐야? | 엘리베이터는 어떤 원리로 작동하나요? | 감기와 독감의 차이가 뭐예요? | 세종대왕은 어떤 업적을 남겼나요? | 퇴직금은 언제 받을 수 있나요? | 원의 넓이를 구하는 공식은? | 주말에 볼 만한 영화 추천해 줘 | 실존주의란 무엇인가요? | 뉴턴의 운동 법칙을 설명해 줘 | 왜 사람은 불안을 느끼나요?",
    "ar": "ما هي وظيفة الخلية العصبية؟ | كيف أحسب أرباح شركتي الصغيرة؟ | ما هو التفاعل الكيميائي؟ | ما هي قاعدة البيانات؟ | ما هو الناتج المحلي الإجمالي؟ | كيف يعمل المحرك الكهربائي؟ | ما علاج الصداع النصفي؟ | من هو صلاح الدين الأيوبي؟ | ما هي حقوق المستأجر في القانون؟ | احسب مساحة مستطيل طوله 5 وعرضه 3 | اكتب لي قصيدة عن البحر | ما هي الفلسفة الوجودية؟ | ما هو قانون الجاذبية؟ | ما هو الاكتئاب وكيف يؤثر على التفكير؟",
    "hi": "कोशिका क्या होती है? | कंपनी का मुनाफ़ा कैसे बढ़ाएँ? | अम्ल और क्षार में क्या अंतर है? | डेटाबेस में इंडेक्स क्या होता है? | सकल घरेलू उत्पाद क्या है? | डीज़ल इंजन कैसे काम करता है? | बुखार कम करने के उपाय बताइए | अशोक कौन था? | तलाक के लिए क्या क़ानूनी प्रक्रिया है? | 25 का वर्गमूल कितना है? | मुझे एक मज़ेदार चुटकुला सुनाओ | बुद्ध के दर्शन में दुःख क्या है? | न्यूटन का तीसरा नियम क्या है? | तनाव में इंसान गलत फ़ैसले क्यों लेता है?",
    "ru": "Зачем клетке митохондрии? | Как найти поставщиков для интернет-магазина? | Что такое валентность? | Как работает сборщик мусора в Java? | Что такое инфляция? | Как устроен двигатель внутреннего сгорания? | Какая норма давления у взрослого? | Кто такой Иван Грозный? | Что такое исковая давность? | Чему равна сумма углов треугольника? | Придумай имя для котёнка | Что такое экзистенциализм? | Что такое электрический ток? | Что такое выгорание и откуда оно берётся?",
    "th": "เซลล์ประสาททำงานอย่างไร | จดทะเบียนบริษัทต้องทำอย่างไร | กรดกับเบสต่างกันอย่างไร | ฐานข้อมูลคืออะไร | จีดีพีคืออะไร | เครื่องยนต์ดีเซลทำงานอย่างไร | อาการของโรคเบาหวานมีอะไรบ้าง | พระเจ้าตากสินคือใคร | ถูกเลิกจ้างต้องได้เงินชดเชยเท่าไร | พื้นที่วงกลมรัศมี 7 เท่ากับเท่าไร | แต่งกลอนวันเกิดให้แม่หน่อย | พุทธปรัชญาว่าด้วยทุกข์คืออะไร | กฎข้อที่สามของนิวตันคืออะไร | ทำไมคนเราถึงกลัวความมืด",
}


def rows():
    """The questions as (language, subject, text)."""
    return [
        (language, subject, text.strip())
        for language, texts in QUESTIONS.items()
        for subject, text in zip(CLASSES, texts.split("|"), strict=True)
    ]
