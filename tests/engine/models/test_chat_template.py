"""Chat templates: Hugging Face's semantics, and bounds that a hostile template cannot pass."""

import hashlib
import json

import pytest

from sixfold.core.errors import RequestError
from sixfold.engine.models import chat_template, template_worker
from sixfold.engine.models.chat_template import TemplateWorker, plain_messages, render
from sixfold.engine.models.tokenizer import tokenizer_from_metadata
from tokens_support import bpe_metadata, needs, real_tokenizer, tiny_bpe

HELLO = [{"role": "user", "content": "hi"}]


def rendered(template, messages=None, special=None, **variables):
    return render(template, messages or HELLO, variables, special or {})


def test_a_tokenizer_applies_its_template():
    tokenizer = tiny_bpe()
    assert tokenizer.apply_chat_template(HELLO) == "[user]hi[assistant]"
    assert tokenizer.apply_chat_template(HELLO, add_generation_prompt=False) == "[user]hi"


@needs("smollm2-135m")
def test_smollm2s_template():
    tokenizer = real_tokenizer("smollm2-135m")
    head = "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging "
    expected = head + "Face<|im_end|>\n<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
    assert tokenizer.apply_chat_template(HELLO) == expected
    ids = tokenizer.encode(expected, add_special_tokens=False)
    assert ids[0] == 1
    assert ids.count(2) == 2
    assert tokenizer.decode(ids, skip_special_tokens=False) == expected


def test_a_known_template_needs_no_process(monkeypatch):
    def refuse(_self, _frame):
        raise AssertionError("a process was asked")

    template = "{{ messages[0].content }}"
    digest = hashlib.sha256(template.encode()).hexdigest()
    monkeypatch.setattr(TemplateWorker, "ask", refuse)
    monkeypatch.setattr(chat_template, "KNOWN_TEMPLATES", frozenset({digest}))
    assert rendered(template) == "hi"


@needs("smollm2-135m")
def test_the_default_models_template_is_known():
    template = real_tokenizer("smollm2-135m").chat_template
    assert hashlib.sha256(template.encode()).hexdigest() in chat_template.KNOWN_TEMPLATES


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{% if true %}\n  x\n{% endif %}\ny\n", "  x\ny"),  # trim_blocks, lstrip_blocks
        ("{% for i in range(5) %}{% if i == 2 %}{% break %}{% endif %}{{ i }}{% endfor %}", "01"),
        ("{{ {'b': 'é<>', 'a': [1, true]} | tojson }}", '{"b": "é<>", "a": [1, true]}'),
        ("{{ {'b': 1} | tojson(indent=2) }}", '{\n  "b": 1\n}'),
        ("{{ bos_token }}{{ eos_token is defined }}", "<s>False"),
        ("a{%- generation -%} b {%- endgeneration -%} c", "abc"),
        ("{{ strftime_now('%%') }}", "%"),
        ("{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = 1 %}{% endfor %}"
         "{{ ns.n }}", "1"),
        ("{% macro f(x) %}<{{ x }}>{% endmacro %}{{ f('a') }}", "<a>"),
        ("{{ messages[0]['content'].strip().upper() }}{{ messages | length }}", "HI1"),
        ("{{ nothing }}|{{ 'x' | trim }}", "|x"),
    ],
)  # fmt: skip
def test_semantics(template, expected):
    assert rendered(template, special={"bos_token": "<s>"}) == expected


def test_variables_reach_the_template_and_others_are_refused():
    template = "{{ enable_thinking }} {{ tools[0].name }}"
    assert rendered(template, enable_thinking=False, tools=[{"name": "f"}]) == "False f"
    with pytest.raises(RequestError, match="'bos_token' is not allowed") as caught:
        rendered(template, bos_token="x")
    assert caught.value.param == "chat_template_kwargs"


def test_a_missing_template_says_what_to_do():
    metadata = bpe_metadata()
    del metadata["tokenizer.chat_template"]
    with pytest.raises(RequestError, match="no chat template") as caught:
        tokenizer_from_metadata(metadata).apply_chat_template(HELLO)
    assert "completions" in caught.value.hint


def test_a_templates_own_refusal_is_the_message():
    with pytest.raises(RequestError, match=r"^roles must alternate\nhint"):
        rendered("{{ raise_exception('roles must alternate') }}")


def test_text_parts_are_joined():
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert plain_messages([{"role": "user", "content": parts}])[0]["content"] == "a\nb"


def test_messages_keep_their_other_fields_and_are_not_changed():
    message = {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}
    assert plain_messages([message]) == [{**message, "content": ""}]
    assert message["content"] is None


@pytest.mark.parametrize(
    "messages",
    [
        [], None, "hi", {}, [None], ["hi"], [{}], [{"role": 1, "content": "x"}],
        [{"role": "user"}], [{"role": "user", "content": 3}], [{"role": "user", "content": {}}],
        [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}],
        [{"role": "user", "content": [{"type": "text"}]}], [{"role": "user", "content": ["x"]}],
        [{"role": "user", "content": [{"type": "text", "text": 1}]}],
        [{"role": "user", "content": "x", "extra": b"bytes"}],
        [{"role": "user", "content": "x"}] * (chat_template.MAX_MESSAGES + 1),
    ],
)  # fmt: skip
def test_wrong_messages_are_request_errors(messages):
    with pytest.raises(RequestError) as caught:
        render("{{ messages }}", messages, {}, {})
    assert caught.value.param == "messages"


def test_messages_nested_too_deep_are_request_errors():
    deep = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(RequestError):
        rendered("x", [{"role": "user", "content": "x", "deep": deep}])


def test_surrogates_pass_through_to_encode_which_refuses_them():
    text = rendered("{{ messages[0].content }}", [{"role": "user", "content": "a\ud800"}])
    with pytest.raises(RequestError, match="surrogate"):
        tiny_bpe().encode(text)


ESCAPES = [
    "{{ ''.__class__ }}",
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ ''['__class__'] }}",
    "{{ '' | attr('__class__') }}",
    "{{ messages.__class__.__base__ }}",
    "{{ self.__init__.__globals__ }}",
    "{{ self._TemplateReference__context }}",
    "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
    "{{ joiner.__init__.__globals__['os'] }}",
    "{{ lipsum.__globals__.os.system('id') }}",
    "{{ namespace.__init__.__globals__ }}",
    "{{ raise_exception.__globals__ }}",
    "{{ strftime_now.__code__ }}",
    "{{ range.__class__ }}",
    "{{ dict.__base__.__subclasses__() }}",
    "{{ messages.append({}) }}",
    "{{ messages[0].update(a=1) }}",
    "{{ messages.pop() }}",
    "{{ '{0.__class__}'.format(1) }}",
    "{{ '{0.__class__}'.format_map({'0': 1}) }}",
    "{{ ('{0.__cl' ~ 'ass__}').format(messages) }}",
    "{{ messages | map(attribute='__class__') | list }}",
    "{{ messages | map('attr', '__class__') | list | first }}",
    "{% import 'os' as os %}",
    "{% include '/etc/passwd' %}",
    "{% extends 'x' %}",
    "{{ (1).__class__.__base__ }}",
    "{{ (x for x in messages).gi_frame }}",
    "{{ request.application }}",
    "{{ config.items() }}",
    "{{ loop.__class__ }}",
    "{% for m in messages %}{{ loop._iterator.__class__ }}{% endfor %}",
    "{% macro f() %}{% endmacro %}{{ f._func.__globals__ }}",
    "{{ f.__code__ }}{{ caller.__globals__ }}",
    "{{ get_flashed_messages.__globals__ }}",
    "{{ messages | tojson(ensure_ascii=cycler.__init__.__globals__) }}",
]

WORK = [
    "{% for i in range(10 ** 9) %}{% endfor %}",
    "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "{% for i in range(99999) %}{% for j in range(99999) %}x{% endfor %}{% endfor %}",
    "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}",
    "{% set n = namespace(s='x') %}{% for i in range(60) %}{% set n.s = n.s ~ n.s %}{% endfor %}",
    "{% set n = namespace(s='x') %}{% for i in range(60) %}{% set n.s = n.s + n.s %}{% endfor %}"
    "{{ n.s }}",
    "{{ 'x' * 10 ** 10 }}",
    "{{ 'x' * 10 ** 7 }}",
    "{{ [0] * 10 ** 10 }}",
    "{{ 9 ** 9 ** 9 }}",
    "{{ (9 ** 99999) ** 999 }}",
    "{{ '%0999999999d' % 1 }}",
    "{{ '{:0999999999d}'.format(1) }}",
    "{{ 'x' | center(10 ** 9) }}",
    "{{ lipsum(n=10 ** 7) }}",
    "{{ 'x' | indent(10 ** 9, true) }}",
    "{{ ('a' * 1000000) | replace('a', 'b' * 10000) }}",
    "{{ strftime_now('%999999999d') }}",
    "{{ ('a' * 50000 ~ 'b') | wordwrap(1) | length }}",
    "{{ range(99999) | map('string') | map('center', 99999) | list | length }}",
    "{% set a = [0] %}{% for i in range(9999) %}{% set a = [a, a] %}{% endfor %}{{ a }}",
    "{{ [[0] * 9999] * 9999 }}",
    "{{ dict(a='x' * 999999) | tojson(indent=999999999) }}",
    "{{ '" + "(" * 5000 + "' }}{{ " + "(" * 500 + "1" + ")" * 500 + " }}",
    "{{ " + "[" * 50000 + " }}",
    "{{ " + "-" * 20000 + "1 }}",
    "{% if true %}" * 3000 + "{% endif %}" * 3000,
]


@pytest.fixture(scope="module")
def worker():
    worker = TemplateWorker(timeout=0.4)
    yield worker
    worker.close()


@pytest.fixture
def strict(worker, monkeypatch):
    monkeypatch.setattr(chat_template, "_WORKER", worker)


@pytest.mark.parametrize("template", ESCAPES)
def test_no_template_reaches_pythons_objects(template, strict):
    try:
        text = rendered(template)
    except RequestError:
        return
    assert "<class" not in text
    assert "<function" not in text
    assert "<module" not in text
    assert "root:" not in text


@pytest.mark.parametrize("template", WORK, ids=range(len(WORK)))
def test_every_templates_work_is_bounded(template, strict):
    try:
        assert len(rendered(template)) <= template_worker.MAX_OUTPUT_CHARS
    except RequestError as error:
        assert "chat template failed" in error.message
    assert rendered("{{ messages[0].content }}") == "hi"


def test_output_is_bounded(strict):
    just = template_worker.MAX_OUTPUT_CHARS
    assert (
        len(rendered("{{ messages[0].content }}", [{"role": "u", "content": "x" * just}])) == just
    )
    with pytest.raises(RequestError, match="characters came out"):
        rendered("{{ messages[0].content }}y", [{"role": "u", "content": "x" * just}])


def test_the_process_is_kept_between_renders_and_replaced_after_its_death(worker, strict):
    rendered("x")
    first = worker._process.pid
    rendered("y")
    assert worker._process.pid == first
    worker._process.kill()
    worker._process.wait()
    assert rendered("z") == "z"
    assert worker._process.pid != first


def test_a_process_that_dies_of_a_frame_is_an_error(monkeypatch, tmp_path):
    script = tmp_path / "dies.py"
    script.write_text("print('{}', flush=True)\ninput()\n")
    monkeypatch.setattr(chat_template.template_worker, "__file__", str(script))
    worker = TemplateWorker()
    assert worker.ask(b"x\n") == {"kind": "size", "error": "its process died"}
    assert worker._process is None


def test_late_renders_are_killed(worker, strict):
    with pytest.raises(RequestError, match=r"more than 0\.4 s"):
        rendered(WORK[1])
    assert worker._process is None


def test_a_frame_that_is_too_large_is_refused(monkeypatch):
    monkeypatch.setattr(chat_template, "MAX_INPUT_BYTES", 1000)
    with pytest.raises(RequestError, match="exceed"):
        rendered("x", [{"role": "user", "content": "x" * 1000}])


def test_the_worker_survives_frames_that_are_no_requests(worker):
    for frame in (b"[]\n", b'{"template": 1, "variables": 2}\n', b"nonsense\n", b"{}\n"):
        assert "error" in worker.ask(frame) or worker._process is None
    ok = json.dumps({"template": "ok", "variables": {}}).encode() + b"\n"
    assert worker.ask(ok) == {"text": "ok"}


def test_the_worker_has_no_environment_and_limits(worker):
    worker.ask(json.dumps({"template": "x", "variables": {}}).encode() + b"\n")
    with open(f"/proc/{worker._process.pid}/limits") as file:
        limits = file.read()
    assert str(template_worker.ADDRESS_SPACE_BYTES) in limits
    with open(f"/proc/{worker._process.pid}/environ", "rb") as file:
        assert b"PATH=" not in file.read()
