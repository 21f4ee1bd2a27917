"""The news of data/new_news_hard/coding.yaml and three versions of each that it could as well have been, as
Python: WORLDS holds the four worlds of each news, the real one first."""


def brindle(larger, change):
    def changed(xs):
        out = list(xs)
        for i in range(1, len(out)):
            if (out[i] > out[i - 1]) if larger else (out[i] < out[i - 1]):
                out[i] = change(out[i], out[i - 1])
        return out
    return changed


def reflected(result):
    while not 0 <= result <= 10:
        result = 20 - result if result > 10 else -result
    return result


def plimsoll(wait, double, none):
    """Seconds waited when the server gives these statuses one after the other; wait(n) is the usual time
    before retry number n."""
    def waited(*statuses):
        seconds = 0
        for n, status in enumerate(statuses, 1):
            if n == 5 or not (status == 429 or status >= 500):
                return seconds
            seconds += {double: 2, none: 0}.get(status, 1) * wait(n)
        raise ValueError("the statuses end before the request does")
    return waited


def sallow(place):
    """(keys held, keys evicted) of a cache for four keys; place counts from the longest unused."""
    def run(uses):
        held, evicted = [], []
        for key in uses:
            if key in held:
                held.remove(key)
            elif len(held) == 4:
                evicted.append(held.pop(place))
            held.append(key)
        return held, evicted
    return run


def wexel(before, further):
    """The columns of a header as one letter each; a digit stands before or after its letter."""
    def columns(header):
        out, pending = "", 1
        for sign in header:
            if sign.isdigit() and before:
                pending = int(sign) + further
            elif sign.isdigit():
                out += out[-1:] * (int(sign) + further - 1)
            else:
                out, pending = out + sign * pending, 1
        return out
    return columns


def p417(more, counted):
    def accepts(name, parameters):
        """parameters: as written between the brackets."""
        names = [p for p in parameters.replace(" ", "").split(",") if p and p != "self"]
        number = sum(counted == "all" or "=" not in p for p in names)
        return name.endswith("_") or len(name.split("_")) == number + more
    return accepts


def mardle(runs):
    """runs(count, n): whether call number `count` since the last fresh one really runs."""
    def decorator(n):
        def decorate(function):
            count, latest = 0, None

            def wrapped(*args, fresh=False):
                nonlocal count, latest
                count = 0 if fresh else count + 1
                if fresh or runs(count, n):
                    latest = function(*args)
                return latest
            return wrapped
        return decorate
    return decorator


def skelder(warning, test, file):
    """The trouble score; a run fails if it is larger than 250."""
    return lambda warnings=0, tests=0, files=0: warning ** warnings * test ** tests * file ** files


SOURCES = "command_line", "environment", "user_file", "project_file"


def vennel(arbiter):
    """The value in use; held: what the four sources hold, in the order of SOURCES, None where the setting is
    lacking."""
    def value(*held, built_in="built-in"):
        votes = [v for v in held if v is not None]
        leading = [v for v in set(votes) if votes.count(v) == max(map(votes.count, votes))]
        own = held[SOURCES.index(arbiter)]
        return leading[0] if len(leading) == 1 else own if own in leading else built_in
    return value


def hobnail(second, third):
    """second, third: 1 if the number of the requirement is a lower bound, -1 if it is an upper bound."""
    def admits(requirement, version):
        (a, b, c), (x, y, z) = ([int(part) for part in text.split(".")] for text in (requirement, version))
        return x == a and second * y >= second * b and third * z >= third * c
    return admits


def corvish(change):
    def matches(pattern, name, star=""):
        if not pattern:
            return not name
        sign, rest = pattern[0], pattern[1:]
        if sign == "*":
            return any(matches(rest, name[i:], name[:i]) for i in range(len(name) + 1))
        text = change(star) if sign == "&" else sign
        return name.startswith(text) and matches(rest, name[len(text):], star)
    return matches


def oxbow(from_last, a_first):
    """Negative if one comes before two."""
    def compare(one, two):
        for a, b in zip(*((w[::-1] if from_last else w) for w in (one, two))):
            if a != b:
                return -1 if (a < b) == a_first else 1
        return len(two) - len(one)
    return compare


def tine(grown):
    def starts(hour, pause):
        """The hours of one day at which the job starts."""
        found = []
        while hour < 24:
            found.append(hour)
            hour, pause = hour + pause, grown(pause)
        return found
    return starts


def plash(size, message):
    """Commits are (message, author), oldest first; message: the place in a joined group that the message is
    taken from."""
    def run(commits, times=1):
        for _ in range(times):
            groups = [commits[i:i + size] for i in range(0, len(commits), size)]
            commits = [(group[message][0], group[-1 - message][1]) for group in groups]
        return commits
    return run


def counted(loop):
    def left(reads):
        """How often each variable may still be read after these lines; negative: a line reads too much.

        Lines: ("let", "x", 3) declares x#3, ("let", "y", "x") copies x, ("read", "x") and ("loop", "x") read
        x once in the text.
        """
        allowed = {}
        for kind, name, *source in reads:
            if source and isinstance(source[0], int):
                allowed[name] = source[0]
                continue
            variable = source[0] if source else name
            allowed[variable] -= loop if kind == "loop" else 1
            if source:
                allowed[name] = allowed[variable]
        return allowed
    return left


WORLDS = {
    "coding-brindle": [brindle(True, lambda x, y: abs(x - y)), brindle(True, lambda x, y: x + y),
                       brindle(False, lambda x, y: abs(x - y)), brindle(False, lambda x, y: x + y)],
    "coding-tarsel": [lambda r: min(max(r, 0), 10), reflected, lambda r: r % 11,
                      lambda r: 0 if r > 10 else 10 if r < 0 else r],
    "coding-plimsoll": [plimsoll(lambda n: 3, 503, 429), plimsoll(lambda n: n, 503, 429),
                        plimsoll(lambda n: n, 429, 503), plimsoll(lambda n: 3, 429, 503)],
    "coding-sallow": [sallow(1), sallow(0), sallow(2), sallow(3)],
    "coding-wexel": [wexel(True, 0), wexel(False, 0), wexel(False, 1), wexel(True, 1)],
    "coding-p417": [p417(2, "required"), p417(1, "required"), p417(1, "all"), p417(2, "all")],
    "coding-mardle": [mardle(lambda count, n: count % n == 0), mardle(lambda count, n: count % n == 1),
                      mardle(lambda count, n: count % n != 0), mardle(lambda count, n: count <= n)],
    "coding-skelder": [skelder(5, 2, 3), skelder(2, 3, 5), skelder(3, 5, 2), skelder(3, 2, 5)],
    "coding-vennel": [vennel(source)
                      for source in ("project_file", "command_line", "environment", "user_file")],
    "coding-hobnail": [hobnail(1, -1), hobnail(1, 1), hobnail(-1, 1), hobnail(-1, -1)],
    "coding-corvish": [corvish(lambda s: s[-1:] + s[:-1]), corvish(lambda s: s[::-1]), corvish(lambda s: s),
                       corvish(lambda s: s[1:] + s[:1])],
    "coding-oxbow": [oxbow(True, True), oxbow(True, False), oxbow(False, True), oxbow(False, False)],
    "coding-tine": [tine(lambda s: s + 2), tine(lambda s: s + 1), tine(lambda s: 2 * s), tine(lambda s: s)],
    "coding-plash": [plash(3, -1), plash(2, 0), plash(2, -1), plash(3, 0)],
    "coding-counted": [counted(2), counted(3), counted(4), counted(5)],
}
