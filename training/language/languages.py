"""The languages that the detector tells apart by its table, and where texts in them come from.

Languages that have a script of their own need no table: src/language/script.rs knows them.
"""

# ISO 639-1 code: (crate of the lingua family, folders of LibreOffice's translations). Grouped by script; the order is the table's.
LATIN = {
    "af": ("afrikaans", "af"), "az": ("azerbaijani", ""), "ca": ("catalan", "ca"), "cs": ("czech", "cs"),
    "cy": ("welsh", "cy"), "da": ("danish", "da"), "de": ("german", "de"), "en": ("english", "en_GB"),
    "eo": ("esperanto", "eo"), "es": ("spanish", "es"), "et": ("estonian", "et"), "eu": ("basque", "eu"),
    "fi": ("finnish", "fi"), "fr": ("french", "fr"), "ga": ("irish", "ga"), "gl": ("", "gl"),
    "hr": ("croatian bosnian", "hr"), "hu": ("hungarian", "hu"), "id": ("indonesian", "id"), "is": ("icelandic", "is"),
    "it": ("italian", "it"), "la": ("latin", ""), "lt": ("lithuanian", "lt"), "lv": ("latvian", "lv"),
    "ms": ("malay", ""), "mt": ("", ""), "nb": ("bokmal nynorsk", "nb nn"), "nl": ("dutch", "nl"),
    "pl": ("polish", "pl"), "pt": ("portuguese", "pt pt_BR"), "ro": ("romanian", "ro"), "sk": ("slovak", "sk"),
    "sl": ("slovene", "sl"), "sn": ("shona", ""), "so": ("somali", ""), "sq": ("albanian", ""),
    "sv": ("swedish", "sv"), "sw": ("swahili", ""), "tl": ("tagalog", ""), "tr": ("turkish", "tr"),
    "uz": ("", "uz"), "vi": ("vietnamese", "vi"), "yo": ("yoruba", ""), "zu": ("zulu", "zu"),
}
CYRILLIC = {
    "be": ("belarusian", "be"), "bg": ("bulgarian", "bg"), "kk": ("kazakh", "kk"), "mk": ("macedonian", "mk"),
    "mn": ("mongolian", "mn"), "ru": ("russian", "ru"), "sr": ("serbian", "sr"), "uk": ("ukrainian", "uk"),
}
ARABIC = {"ar": ("arabic", "ar"), "fa": ("persian", "fa"), "ur": ("urdu", "")}
DEVANAGARI = {"hi": ("hindi", "hi"), "mr": ("marathi", "mr"), "ne": ("", "ne")}
# What is none of these languages: program text, markup and identifiers ("-"), and by Tesseract's names languages that are
# left out but must not be taken for a neighbour. They are lanes like the others; a text that is most like one has no language.
CODE = "-"
LATIN |= {CODE: ("", ""), "other latin": ("", "")}
CYRILLIC |= {"other cyrillic": ("", "")}
ARABIC |= {"other arabic": ("", "")}
OTHERS = {
    "other latin": "jav sun hat bre gla ltz fry fao ceb cos oci",
    "other cyrillic": "kir tat tgk uzb_cyrl",
    "other arabic": "pus snd uig",
}
NONES = {CODE, *OTHERS}
SCRIPTS = {"latin": LATIN, "cyrillic": CYRILLIC, "arabic": ARABIC, "devanagari": DEVANAGARI}
SOURCES = {code: of for script in SCRIPTS.values() for code, of in script.items()}
LANES = [*SOURCES]
