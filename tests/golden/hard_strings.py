"""Strings on which tokenizers differ: the inputs of the tokenizer vectors."""

_SPACES = [
    "", " ", "  ", "   ", "    ", "\t", "\t\t", "\n", "\n\n", "\n\n\n", "\n\n\n\n\n", "\t\n", " \n",
    "\n ", " \n ", "\r", "\r\n", "\r\n\r\n", "\n\r", "\v", "\f", "\x85", "\u00a0", "\u2003\u2003",
    "\u3000", "\u200b", "\ufeff", "\u2028\u2029", " \u00a0 ", "a b", "a  b", "a   b", "a\tb", "a\n b",
    "a \n\n b", "a\r\nb\r\n", " leading", "  two leading", "    four leading", "trailing ",
    "trailing   ", "trailing\n", "  both  ", "\tx = 1\n\t\ty = 2\n", "one\n\n\ntwo\n \n three",
    " \t mixed \t runs \t ", "x \u3000 y",
]  # fmt: skip

_NUMBERS = [
    "0", "1", "12", "123", "1234", "12345", "123456789", "3.14159", "1,000,000", "-42", "+7",
    "1e-10", "0x1F3a", "1/2", "2024-05-06", "12:34:56.789", "v1.2.3-rc4", "a1b2c3", "100%", "$19.99",
    "٣٤٥", "१२३", "５６７", "²³¹", "½ ⅓ Ⅳ", "1 2 3  4   5", "192.168.0.1:8080", "1_000_000", "007",
]  # fmt: skip

_WORDS = [
    "Hello world", "Hello, world!", " Hello", "HELLO hello HeLLo", "camelCaseAndPascalCase",
    "snake_case_name", "kebab-case-name", "don't can't I'm you're we've they'll he'd it's",
    "DON'T CAN'T I'M YOU'RE WE'VE THEY'LL HE'D IT'S", "don’t can’t it’s", "'s 't 're 've 'm 'll 'd",
    "o'clock rock'n'roll 'twas", "''''", "\"quoted\" 'single' `tick`", "antidisestablishmentarianism",
    "Pneumonoultramicroscopicsilicovolcanoconiosis", "e.g. i.e. etc.", "a.b.c", "U.S.A.", "C++ C# F#",
    "what?!?!...", "wait... no…", "---- ==== ****", "!!!!!!!!!!", "(a)[b]{c}<d>", "a/b\\c|d", "@user #tag",
    "x=y+z*w-v/u%t^s", "&amp; &lt;b&gt; &#39;", "résumé naïve coöperate", "Äpfel Öl Über Straße ß ẞ",
    "ÀÉÎÕÜ àéîõü", "Ångström", "ﬁ ﬂ ﬃ", "ĲĳŁłŒœ", "İıIi", "ſtraße",
]  # fmt: skip

_UNICODE = [
    "e\u0301 vs \u00e9", "a\u0300\u0301\u0302\u0303", "Z͑ͫ̓ͪ̂ͫ̽͏̴̙̤̞͉͚̯̞̠͍A̴̵̜̰͔ͫ͗͢L̠ͨͧͩ͘G̴̻͈͍͔̹̑͗̎̅͛́Ǫ̵̹̻̝̳͂̌̌͘!", "한국어 문장입니다.",
    "\u1112\u1161\u11ab\u1100\u1173\u11af", "今日はいい天気ですね。", "カタカナ ｶﾀｶﾅ ひらがな", "我想在apple工作1314151天～",
    "这是一个测试，看看分词器怎么处理。", "繁體中文與簡體中文", "𠮷野家", "안녕하세요, 세계!", "مرحبا بالعالم",
    "السَّلَامُ عَلَيْكُمْ", "ﷺ ﷽", "שלום עולם", "שָׁלוֹם", "नमस्ते दुनिया", "क्षत्रिय", "হ্যালো বিশ্ব", "வணக்கம் உலகம்",
    "สวัสดีชาวโลก", "ภาษาไทยไม่มีช่องว่าง", "ສະບາຍດີ", "កាន់តែពិសេសអាចខលចេញ", "မင်္ဂလာပါ", "བཀྲ་ཤིས་བདེ་ལེགས", "Привет, мир!",
    "нещо на Български", "Γειά σου Κόσμε", "Ողջույն", "გამარჯობა", "Cửa Việt Nguyễn", "Türkçe ğüşıöç",
    "🙂", "🚀🚀🚀", "👍🏽", "👨‍👩‍👧‍👦", "🏳️‍🌈", "🇨🇭🇯🇵", "😶‍🌫️ ok", "1️⃣ #️⃣", "✅ ❌ ⚠️", " 🦙.cpp", "a🙂b🙃c",
    "∀x∈ℝ: x²≥0", "∑∫∂√∞≈≠≤≥", "→←↑↓⇒", "𝓗𝓮𝓵𝓵𝓸 𝐰𝐨𝐫𝐥𝐝", "ⓗⓔⓛⓛⓞ", "\U0010fffd", "\ufffd", "\ue000\uf8ff",
    "\u202eright to left\u202c", "a\u00adb", "x\u2060y", "…—–‘’“”«»„", "€£¥₹₿", "▁", "▁hello▁world", "Ġhello Ċ",
    "ΑΒΓαβγ АБВабв", "\u0378\u0379",
]  # fmt: skip

_CODE = [
    "def f(x):\n    return x ** 2\n", "for (int i = 0; i < n; ++i) {\n\tsum += a[i];\n}\n",
    "if (a && b || !c) { return; }", "<html>\n  <body class=\"x\">&nbsp;</body>\n</html>", "#include <stdio.h>",
    "let v: Vec<u8> = vec![0; 1024];", "SELECT * FROM t WHERE a='b' -- c", "$ ls -la | grep '^d' > out.txt",
    "https://example.org/a/b?c=d&e=%20f#g", "user.name+tag@example.co.uk", "C:\\Users\\x\\file.txt",
    "../../etc/passwd", "```python\nprint('hi')\n```", "| a | b |\n|---|---|\n| 1 | 2 |", "# Title\n\n## Sub\n\n- item\n",
    "{\"a\": [1, 2.5, null, true], \"b\": {\"c\": \"\\n\"}}", "\\frac{a}{b} + \\sqrt{x_1}", "a;b,c:d", "=>=>=>", "/* c */ // d",
    "0b1010 0o17 1.5f 10UL", "MAX_INT=2147483647", "__init__ ____ _", "x\n\n\n\ny\n\n\n    z",
]  # fmt: skip

_CONTROL = [
    "\x00", "a\x00b", "\x01\x02\x03", "\x1b[31mred\x1b[0m", "\x7f", "\x08\x08", "bell\x07", "\u0080\u009f",
]  # fmt: skip

_SPECIAL = [
    "<|im_start|>", "<|im_end|>", "<|im_start|>user\nHi there<|im_end|>\n<|im_start|>assistant\n",
    "a<|im_end|>b", "<|im_end|><|im_end|>", "  <|im_start|>  x  <|im_end|>  ", "<|endoftext|>", "x<|endoftext|>",
    "<|im_start", "<|im_start|", "|im_start|>", "<s>", "</s>", "<s>hello</s>", "<unk>", "<pad>", "<bos>", "<eos>", "<mask>",
    "<bos><start_of_turn>user\nHi<end_of_turn>\n<start_of_turn>model\n", "<end_of_turn>\n", "<start_of_image>",
    "<unused0> <unused99>", "<0x0A>", "<0x41><0xFF>", "[INST] hi [/INST]", "<<SYS>>", "<|begin_of_text|>",
    "<|start_header_id|>user<|end_header_id|>\n\nhi<|eot_id|>", "<think>\n\n</think>", "<tool_call>{}</tool_call>",
    "<repo_name>x<file_sep>y", "<h1>x</h1><br>", "<|fim_prefix|>a<|fim_suffix|>b", "<a><|im_end|> \n", "<jupyter_start>",
    "<issue_comment>", "<empty_output>",
]  # fmt: skip

_LONG = [
    "a" * 1000, "ab" * 300, " " * 700, "\n" * 300, "\t" * 200, "=" * 500, "-" * 333, ". " * 250, "1" * 400,
    "あ" * 200, "🙂" * 100, "é" * 250, "e\u0301" * 120, "the " * 250, "Aa1 " * 120, "x\n" * 150, "\u00a0" * 90,
    "lorem ipsum dolor sit amet, consectetur adipiscing elit, " * 12, "http://" * 60, "'s" * 90,
]  # fmt: skip

STRINGS: list[str] = _SPACES + _NUMBERS + _WORDS + _UNICODE + _CODE + _CONTROL + _SPECIAL + _LONG
