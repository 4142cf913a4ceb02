"""The answer in plain sentences: what to ship, what it costs, and how sure that is."""

from collections.abc import Mapping, Sequence
from typing import Any

from ltkit.reporting.exhibits import brief
from ltkit.reporting.numbers import counted, percent, span
from ltkit.settings import SHOT_GROUPS

Row = Mapping[str, Any]

GROUP_NAMES = {
    "few": "rare classes (few)", "medium": "medium classes", "many": "frequent classes (many)",
    "all": "all images", "balanced": "the mean class",
}  # fmt: skip


def sentences(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return what stands at the top of the page: headings, and a sentence or two for each.

    Args:
        found: of the section `ltkit.reporting.sections.answer`.
    """
    row = found["rows"][found["lead"]] if found["lead"] else None
    return [
        ("Ship", _what(found, row)),
        ("Cost", _cost(found, row)),
        ("How sure", f"{_sure(found)} {_failing(found)}"),
    ]


def _what(found: Mapping[str, Any], row: Row | None) -> str:
    advice, val = found["advice"], found["on_val"]
    if advice and advice["keep"]:
        return f"Keep the model as it is: {advice['reason']}."
    if len(found["rows"]) == 1:
        return "No correction was made yet: this page shows the model alone."
    on = f"on {found['split']} ({counted(found['n'], 'image')})"
    if advice and row:
        return f"{_named(row)}: {on} {_gains(row)}."
    if val is None and found["several"]:
        return (
            "Nothing was chosen, for the networks share no validation images to choose on: the "
            f"table shows each {on}, against {_named(found['rows'][0])}."
        )
    if val is None:
        return (
            "Nothing was chosen, for there are no validation images to choose on: the table shows "
            f"every setting {on}, and the best of many is partly lucky."
        )
    what = "networks" if found["several"] else "corrections"
    own = f"{percent(val[0])} % {_without(found)}"
    about = f"{percent(val[1])} % balanced accuracy there, against {own}"
    if row is None:
        return f"None of the {what} shown beats {_model(found)} on val; the best has {about}."
    seen = ", the very images shown here, so that it looks too good" * (found["split"] == "val")
    return (
        f"Nothing was recommended for this page; of the {what} shown, {_named(row)} is the "
        f"best on val{seen} ({about}). {_capital(on)} {_gains(row)}."
    )


def _model(found: Mapping[str, Any]) -> str:
    """Return what the others are compared with."""
    return _named(found["rows"][0]) if found["several"] else "the model"


def _without(found: Mapping[str, Any]) -> str:
    return f"of {_model(found)}" if found["several"] else "without it"


def _named(row: Row) -> str:
    return brief(str(row["label"]))


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _gains(row: Row) -> str:
    """Return what rare classes gain, and what all do."""
    told = [
        _change(row, name)
        for name in ("few", "balanced")
        if row["difference"][name] is not None and (name == "few" or row["difference"][name] >= 0)
    ]
    return " and ".join(told)


def _change(row: Row, name: str) -> str:
    """Return a group's change and its interval."""
    value, ends = row["difference"][name], row["interval"][name]
    verb = "gains" if value >= 0 else "loses"
    verb = verb if name in ("balanced",) else verb.removesuffix("s")
    within = "" if ends is None else f" ({span(ends, '+')})"
    return f"{GROUP_NAMES[name]} {verb} {percent(abs(value))} points{within}"


def _cost(found: Mapping[str, Any], row: Row | None) -> str:
    advice = found["advice"]
    if row is None:
        if (advice and advice["keep"]) or len(found["rows"]) == 1:
            return "Nothing is changed, so nothing is lost."
        what = "network" if found["several"] else "correction"
        return f"What each {what} takes from whom is in the table below."
    lost = [
        _change(row, name)
        for name in (*SHOT_GROUPS, "all")
        if (ends := row["interval"][name]) is not None and ends[1] < 0
    ]
    text = "Paid for by others: " + "; ".join(lost) if lost else "No group loses beyond noise"
    hurt = found["hurt"]
    if hurt is None:
        return f"{text}."
    return (
        f"{text}. {_capital(counted(hurt['count'], 'class', 'classes'))} of {hurt['of']} "
        f"{'is' if hurt['count'] == 1 else 'are'} right less often than before, most of all "
        f"{brief(hurt['name'], 40)}: {percent(hurt['before'])} → {percent(hurt['after'])} %."
    )


def _sure(found: Mapping[str, Any]) -> str:
    advice = found["advice"]
    if len(found["rows"]) == 1 and advice is None:
        return ""
    if advice is None and found["several"]:
        return (
            "The intervals are for new images and these networks as they are, not for networks "
            "trained anew."
        )
    if advice is None:
        return (
            "The intervals are for new images and seeds; they do not know that the best of several "
            "was taken, as ltkit recommend does."
        )
    if advice["wins"] is None:
        return (
            f"The gain was not estimated before: {advice['reason']}." if not advice["keep"] else ""
        )
    text = f"Chosen {_rule(advice)}by cross-validation inside val"
    if not advice["keep"]:
        text += f", where this method wins in {100 * advice['wins']:.0f} % of {_folds(advice)}"
    if advice["gain"] is not None and not advice["keep"]:
        text += (
            f"; on the images left out it gained {percent(advice['gain'], '+')} points of "
            f"{advice['objective']} accuracy ({span(advice['interval'], '+')})"
        )
    other = advice["runner_up"]
    if other is not None and not advice["keep"]:
        side = "behind" if other["behind"] >= 0 else "ahead"
        noise = "within" if other["within_noise"] else "beyond"
        far = f"{percent(abs(other['behind']))} points {side}, {noise} noise"
        text += f"; next is {brief(other['label'])}: {far}"
    return f"{text}."


def _rule(advice: Mapping[str, Any]) -> str:
    """Return what was maximised, and what had to be kept; nothing where that is not known.

    Example:
        >>> _rule({"objective": "few", "limits": [{"group": "all", "least": -0.005}]})
        'for few accuracy, with all at -0.5 or more, '
        >>> _rule({"objective": None, "limits": []})
        ''
    """
    if advice["objective"] is None:
        return ""
    limits = [f"{x['group']} at {100 * x['least']:+g} or more" for x in advice["limits"]]
    kept = f", with {_listed(limits)}," if limits else ""
    return f"for {advice['objective']} accuracy{kept} "


def _folds(advice: Mapping[str, Any]) -> str:
    """Return the folds in words."""
    folds = advice["folds"]
    if folds is None:
        return "the folds"
    count = folds["folds"] * folds["repeats"]
    return f"{count} folds of its {counted(advice['val'], 'image')}"


def _failing(found: Mapping[str, Any]) -> str:
    """Return which rare classes still fail."""
    failing = found["failing"]
    if not failing["of"]:
        return ""
    whose = "with it" if found["lead"] else "today"
    below = f"{100 * failing['below']:g} %"
    if not failing["count"]:
        return f"No rare class of {failing['of']} is right in less than {below} of its images."
    names = _listed([f"{brief(n, 40)} ({percent(a)} %)" for n, a in failing["worst"]])
    verb = "is" if failing["count"] == 1 else "are"
    worst = "it is" if failing["count"] == 1 else "worst are"
    return (
        f"Still failing {whose}: {failing['count']} of {failing['of']} rare classes {verb} right "
        f"in less than {below} of their images; {worst} {names}."
    )


def _listed(texts: Sequence[str]) -> str:
    """Return texts as one list.

    Example:
        >>> _listed(["a"]), _listed(["a", "b", "c"])
        ('a', 'a, b and c')
    """
    *some, last = texts
    return f"{', '.join(some)} and {last}" if some else last
