"""Where the numbers in the text of a notebook come from.

Each decimal, each percentage and each whole number above 12 in a text cell must be
found, rounded as it is written: in what a code cell above has printed or displayed as
text, in the code, or in a derivation beside it. Formulas, code, links, years, and the
numbers of notebooks are not looked up.
"""

import ast
import math
import re

from utils.course.notebooks import course_cells, tags_of

MAGIC = re.compile(r"^\s*(?:\w+\s*=\s*)?(?:!(?!=)|%%?(?=[a-z])).*", re.M)
SMALL = 12  # whole numbers up to here are ordinary words
MINUS = "\N{MINUS SIGN}"
NUMBER = re.compile(
    rf"""
    (?<![\w.,/])(?<![A-Za-z]-)        # not inside a word, a version, or a path
    (?P<sign>{MINUS}|(?<![\w)\]%]\ )(?<![\w)\]%-])-)?
    (?P<digits>\d{{1,3}}(?:,\d{{3}})+(?:\.\d+)?|\d+(?:\.\d+)?)
    (?P<power>e-?\d+)?
    (?P<percent>(?:\ |\N{{NO-BREAK SPACE}})?%)?
    (?!\d|,\d|[A-Za-wyzA-Z_]|-[A-Za-z])  # 32px is a word; 28x28 and 3x are numbers
    """,
    re.X,
)
PRINTED = re.compile(r"(?<![\w.])[-\N{MINUS SIGN}]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?%?")
CITED = re.compile(r"\([^()]*\b(?:18|19|20)\d\d\b[^()]*\)")
NOTEBOOK = re.compile(r"(?:10|[1-9])\.(?:[1-9]|1\d|2[0-5])")
BEFORE_A_NOTEBOOK = re.compile(
    r"(?:\b(?:in|of|from|see|than|by|to|and|with|as|notebooks?|after|until|like|for|"
    r"since|both|or|against|when|that|what|section)|[(\[,;:|.?!]|^)\s*$",
    re.I,
)


def unfounded(nb):
    """Return each number in the text of `nb` that nothing shows, with its sentence."""
    cells = course_cells(nb)
    code = [literal for cell in cells for literal in literals(cell)]
    shown, missing = [], []
    for cell in cells:
        if cell.cell_type == "code":
            shown += printed_numbers(cell)
            continue
        derived = derivations(cell.source)
        for sentence in sentences(cell.source):
            for found in NUMBER.finditer(sentence):
                if is_looked_up(found, sentence) and not is_found(
                    found, shown, code, derived
                ):
                    missing.append(f"{found.group().strip()} in: {sentence.strip()}")
    return missing


def sentences(text):
    """Return the prose of a text cell in sentences, without what is not looked up."""
    text = re.sub(r"(?ms)^## References.*", "", text)
    for passage in (
        r"```.*?```",
        r"\$\$.*?\$\$",
        r"\$[^$\n]*\$",
        r"`[^`\n]*`",
        r"<!--.*?-->",
        r"<[^>\n]*>",
        r"https?://\S+",
    ):
        text = re.sub(passage, " … ", text, flags=re.S)
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"[\1]", text)  # a link's words stay
    text = re.sub(r"(?m)^#+ [\d.]*.*$", "", text)  # headings
    text = re.sub(r"(?m)^(\s*)\d+\. ", r"\1", text)  # numbered lists
    lines = [
        re.sub(r"\|[^|\n]*\|\s*$", "|", line) if time_row(line) else line
        for line in text.splitlines()
    ]
    text = "\n".join(lines)
    return re.split(r"(?<=[.?!:;])\s+(?=[A-Z*\[(])|\n\s*\n|\|", text)


def time_row(line):
    """Tell whether a line is the table's row with the time, and what is downloaded."""
    return line.startswith("|") and re.search(r"(?:second|minute)s? on |\d MB", line)


def is_looked_up(found, sentence):
    """Tell whether a number in a sentence is one of those that need a source."""
    digits, percent = found["digits"].replace(",", ""), found["percent"]
    before, after = sentence[: found.start()], sentence[found.end() :]
    if not percent and not found["power"] and "." not in digits:
        if int(digits) <= SMALL:
            return False
        if re.fullmatch(r"(?:18|19|20)\d\d", digits) and "," not in found["digits"]:
            return False
        if re.match(r"\s*(?:to \d+ )?minutes?, \N{BLACK STAR}", after):
            return False
    if not percent and NOTEBOOK.fullmatch(digits) and not found["sign"]:
        planned = re.match(r"\s*\(planned\)", after)
        if planned or BEFORE_A_NOTEBOOK.search(before):
            return False
    # what another work has found is cited beside it
    return not CITED.search(sentence)


def value_of(found):
    """Return the value of a number in the text, and its last place: 0.93 -> 0.01."""
    digits = found["digits"].replace(",", "")
    decimals = len(digits.partition(".")[2])
    scale = float(f"1{found['power']}") if found["power"] else 1.0
    value, step = float(digits) * scale, 10.0**-decimals * scale
    return (-value if found["sign"] else value), step


def is_found(found, shown, code, derived):
    """Tell whether a number is shown above, stands in the code, or is derived."""
    value, step = value_of(found)
    candidates = [(value, step)]
    if found["percent"]:
        candidates.append((value / 100, step / 100))
    for wanted, place in candidates:
        for number in shown:
            # a loss of 0.05 may be shown as a change of -0.05, never the other way
            for other in {number, abs(number)}:
                if rounds_to(other, wanted, place):
                    return True
        if any(math.isclose(wanted, number, rel_tol=1e-9) for number in code):
            return True
    return any(rounds_to(number, value, step) for number in derived)


def rounds_to(number, wanted, place):
    """Tell whether `number`, rounded to the place of `wanted`, is `wanted`."""
    return abs(number - wanted) <= 0.5 * place * (1 + 1e-6) + 1e-12


def literals(cell):
    """Return the numbers that stand in a code cell."""
    if cell.cell_type != "code":
        return []
    numbers = []
    for node in ast.walk(ast.parse(MAGIC.sub("", cell.source))):
        if isinstance(node, ast.Constant):
            if isinstance(node.value, int | float) and not isinstance(node.value, bool):
                # -20 is a minus before a 20
                numbers += [float(node.value), -float(node.value)]
            elif isinstance(node.value, str) and not tags_of(cell):
                numbers += to_numbers(node.value)
    return numbers


def printed_numbers(cell):
    """Return the numbers among the texts that a code cell has put out."""
    numbers = []
    for out in cell.outputs:
        data = out.get("data", {})
        texts = [out.get("text", ""), data.get("text/plain", "")]
        if "text/html" in data and "<table" in data["text/html"]:
            texts.append(re.sub(r"<[^>]*>", " ", data["text/html"]))
        for text in texts:
            if not text.startswith("<Figure size"):
                numbers += to_numbers(text)
    return numbers


def to_numbers(text):
    """Return the numbers in a text, a percentage also as a share."""
    numbers = []
    for found in PRINTED.findall(text):
        percent = found.endswith("%")
        plain = found.rstrip("%").replace(MINUS, "-").replace(",", "")
        value = float(plain)
        numbers += [value, value / 100] if percent else [value]
    return numbers


def derivations(text):
    """Return the numbers that a text cell derives.

    These are the numbers behind =, ≈ or "is" in its formulas, and the values of sums,
    differences, products and quotients that are written out in its prose.
    """
    numbers = []
    for formula in re.findall(r"\$\$.*?\$\$|\$[^$\n]*\$", text, flags=re.S):
        plain = formula.replace("{,}", "").replace(r"\,", "").replace(r"\%", "%")
        for found in re.findall(
            r"(?:=|\\approx|\\le|\\ge|<|>)\s*(-?\d[\d,]*(?:\.\d+)?)", plain
        ):
            numbers.append(float(found.replace(",", "")))
    operators = {"+": "+", MINUS: "-", "-": "-", "×": "*", "·": "*", "/": "/"}
    written = re.compile(
        r"(\d[\d,]*(?:\.\d+)?%?)((?:\s*[+\-−×·/]\s*\d[\d,]*(?:\.\d+)?%?)+)\s*[=≈]"
    )
    for first, rest in written.findall(text):
        source = (first + rest).replace(",", "").replace("%", "")
        for sign, operator in operators.items():
            source = source.replace(sign, operator)
        try:
            value = eval(compile(source, "derivation", "eval"), {"__builtins__": {}})
        except (ZeroDivisionError, SyntaxError):
            continue
        numbers += [float(value), 100 * float(value)]
    return numbers
