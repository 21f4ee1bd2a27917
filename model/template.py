"""Is a model folder's chat template ChatML? Judged by what it renders, not by how it is written.

ChatML is   <|im_start|>ROLE\\nCONTENT<|im_end|>\\n   per message, then   <|im_start|>assistant\\n   where an
answer is asked for. A template may put a default system message in front of a conversation that has none.
The folder's own template renders the conversations below, chosen so that the usual differences show: trimmed
contents, other roles' names, hidden thoughts taken out, a date put in. What differs from ChatML anywhere is
refused with the first differing place. (A template that keeps its difference for a word that is in none of
them passes: this is a check, not a proof.)

A template is a program that somebody else wrote. It runs in jinja2's immutable sandbox, as transformers runs
it, but in a process of its own with a limit on processor time and memory, which ends it for certain; a thread
or a step counter would not end `10 ** (10 ** 10)`.
"""

import datetime
import json
import os
import re
import subprocess
import sys
from functools import lru_cache

from model.files import short

CHATML = ("{% for message in messages %}"           # the plain template, for a folder that we make
          "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}"
          "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}")
SYSTEM = re.compile(r"<\|im_start\|>system\n(.*)<\|im_end\|>\n", re.DOTALL)
LONGEST = 100_000               # characters of a template; Qwen2.5's has 2,500
SECONDS, MEMORY = 3, 2 ** 30    # of the process that runs it: processor time, bytes of address space
PATIENCE = 120                  # seconds on the clock, where the system cannot limit processor time

ODD = (" \n <think>\nhm\n</think>\n\n{{ 7 * 7 }} {% if %}\t[INST] e\u0301 \U0001f600 'a' \"b\" \\n "
       "<b>&amp;</b>\r\n ")


def turns(roles, *contents):
    names = {"s": "system", "u": "user", "a": "assistant"}
    return [{"role": names[r], "content": c} for r, c in zip(roles, contents, strict=True)]


CONVERSATIONS = (
    turns("u", "What's new?"),          # the first: the default system message is read from it
    turns("u", ""), turns("u", ODD), turns("su", "Be brief.", "Hi"), turns("su", ODD, ODD),
    turns("su", "", "Hi"), turns("s", "Be brief."), turns("ua", "Hi", "Hello."), turns("ua", ODD, ODD),
    turns("ua", "Hi", ""), turns("sua", "Be brief.", "Hi", "Hello."), turns("uau", "Hi", "Hello.", "And?"),
    turns("uau", ODD, ODD, ODD), turns("suaua", "s", "one", "two", "three", "four"),
    turns("uauauau", *"1234567"),
    turns("uu", "Hi", "Anybody?"), turns("a", "I begin."), turns("au", "I begin.", "Do."),
    turns("usu", "Hi", "Be brief.", "So?"), turns("su", "x" * 3000, "y " * 3000),
    turns("ua", "<tool_response>\n1\n</tool_response>", "<tool_call>\n{}\n</tool_call>"),
)


def chatml(messages, system=None, prompted=False):
    """A conversation as ChatML text; `system` stands in front where it has no system message there."""
    if system is not None and messages[0]["role"] != "system":
        messages = [{"role": "system", "content": system}, *messages]
    text = "".join(f"<|im_start|>{m['role']}\n{m['content']}<|im_end|>\n" for m in messages)
    return text + "<|im_start|>assistant\n" * prompted


@lru_cache
def default_system(template, words=()):
    """The default system message of a template, None if it has none; ValueError if it is not ChatML.

    words: the folder's special tokens as a template may name them, (("bos_token", "<s>"), ...).
    """
    if len(template) > LONGEST:
        raise ValueError(f"it has {len(template):,} characters, more than the {LONGEST:,} that are tried")
    jobs = [(messages, prompted) for messages in CONVERSATIONS for prompted in (False, True)]
    made = in_own_process({"template": template, "words": dict(words), "jobs": jobs})
    first, rendered = chatml(CONVERSATIONS[0]), made["rendered"]
    front = SYSTEM.fullmatch(rendered[0].removesuffix(first)) if rendered[0].endswith(first) else None
    system = front and front.group(1)
    for (messages, prompted), found in zip(jobs, rendered):
        expected = chatml(messages, system, prompted)
        if found != expected:
            roles = ", ".join(m["role"] for m in messages)
            raise ValueError(f"it does not render ChatML, the one format that this code feeds to a model: "
                             f"for a conversation of {roles} {difference(found, expected)}")
    if made["dated"]:
        raise ValueError("it puts today's date in, so that no run could be repeated on another day")
    return system


def difference(found, expected):
    """The first place where two texts differ, with a little of both around it."""
    at = len(os.path.commonprefix([found, expected]))
    start = max(0, at - 30)
    return (f"it gives {found[start:at + 50]!r} at character {at}, "
            f"ChatML {expected[start:at + 50]!r}")


def in_own_process(job):
    """Run `child` on a job, in a process that ends whatever the template does; ValueError if it failed."""
    command = [sys.executable, "-P", "-c", "from model.template import child; child()"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p or os.getcwd() for p in sys.path)}
    try:
        done = subprocess.run(command, input=json.dumps(job).encode(), capture_output=True, timeout=PATIENCE,
                              env=environment)
    except subprocess.TimeoutExpired:
        raise ValueError(f"it did not end within {PATIENCE} s") from None
    if done.returncode or not done.stdout:
        raise ValueError(f"it did not end properly within {SECONDS} s and {MEMORY / 2 ** 30:g} GiB "
                         f"(exit code {done.returncode})")
    made = json.loads(done.stdout)
    if "error" in made:
        raise ValueError(made["error"])
    return made


def child():
    """Render the jobs that come on stdin; the texts, or an error, go to stdout as JSON."""
    try:
        import resource
        resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))           # nor may it write a file
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    except (ImportError, ValueError, OSError):
        pass                                                        # not every system has them all
    job = json.load(sys.stdin)
    try:
        made = render(job["template"], job["words"], job["jobs"])
    except Exception as error:      # a template may fail in any way that a program can
        made = {"error": f"it cannot be rendered: {type(error).__name__}: {short(str(error))}"}
    json.dump(made, sys.stdout)


def render(template, words, jobs):
    """The texts of the jobs, in the environment that transformers gives to a template."""
    import jinja2
    import jinja2.ext
    import jinja2.sandbox
    dated = []

    class Generation(jinja2.ext.Extension):
        """{% generation %} marks the assistant's words for a trainer; it renders what is in it."""
        tags = {"generation"}

        def parse(self, parser):
            next(parser.stream)
            return parser.parse_statements(["name:endgeneration"], drop_needle=True)

    def raise_exception(message):
        raise jinja2.TemplateError(message)

    def strftime_now(format):
        dated.append(format)
        return datetime.datetime.now().strftime(format)

    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators,
                          sort_keys=sort_keys)

    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols])
    environment.filters["tojson"] = tojson
    environment.globals.update(raise_exception=raise_exception, strftime_now=strftime_now)
    compiled = environment.from_string(template)
    rendered = []
    for messages, prompted in jobs:
        text = compiled.render(messages=messages, tools=None, documents=None, add_generation_prompt=prompted,
                               **words)
        if len(text) > 10 * LONGEST:
            raise ValueError(f"{len(text):,} characters for one conversation")
        rendered.append(text)
    return {"rendered": rendered, "dated": bool(dated)}
