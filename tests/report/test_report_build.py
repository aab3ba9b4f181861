"""The page and its files: self-contained, whole or absent, same bytes for same inputs, honest in words."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from datetime import date
from html import escape
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from report_evidence import make_evidence
from report_world import ACCOUNTS, LAGS, make_world, report_context

from majors_alts_pipeline.report import build as report_build
from majors_alts_pipeline.report import place
from majors_alts_pipeline.report.build import ReportError, build_report
from majors_alts_pipeline.report.figures.style import MAX_POINTS
from majors_alts_pipeline.report.html import JSON_ROWS
from majors_alts_pipeline.report.statistics import Statistics

PAGES = ("index", "regime", "basket", "costs", "evidence", "data")


@pytest.fixture(scope="module")
def page(built):
    return built.html.read_text()


@pytest.fixture(scope="module")
def site(built):
    return {name: (built.index.parent / f"{name}.html").read_text() for name in PAGES}


@pytest.fixture(scope="module")
def proven_site(proven):
    return {name: (proven.index.parent / f"{name}.html").read_text() for name in PAGES}


class _Page(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.links, self.ids, self.tags, self.figures, self.headings, self.attributes = [], [], [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.tags.append(tag)
        self.attributes += values.items()
        self.links += [values[name] for name in ("src", "href", "srcset", "data", "action") if values.get(name)]
        self.ids += [values["id"]] if "id" in values else []
        if values.get("role") == "img":
            self.figures.append(values)
        if re.fullmatch(r"h[1-6]", tag):
            self.headings.append(int(tag[1]))


def _figures(page):
    found = re.findall(r'<script type="application/json" id="data-([^"]+)">(.*?)</script>', page, re.S)
    return {name: json.loads(body) for name, body in found}


def _text(page):
    return re.sub(r"<style>.*?</style>|<script.*?</script>", "", page, flags=re.S)


def _outside(link):
    return not link.startswith(("#", "data:")) and "://" in link


def test_single_file_refers_to_nothing_outside(page, built):
    parsed = _Page(page)
    inside = [link for link in parsed.links if link.startswith(("#", "data:"))]
    beside = [link for link in parsed.links if link not in inside]
    assert not [link for link in beside if not re.fullmatch(r"(tables/\w+\.(csv|parquet|json)|figures/\w+\.png)", link)]
    assert not {"img", "iframe", "object", "embed", "link rel=stylesheet"} & set(parsed.tags)
    style = re.search(r"<style>(.*?)</style>", page, re.S).group(1)
    assert "url(" not in style
    assert "@import" not in style
    missing = [link for link in beside if not (built.html.parent / link).exists()]
    assert not missing
    assert not [link for link in inside if link.startswith("#") and link[1:] not in parsed.ids]


def test_every_page_of_the_site_finds_what_it_refers_to(proven_site, proven):
    parsed = {name: _Page(text) for name, text in proven_site.items()}
    folder = proven.index.parent
    for name, one in parsed.items():
        assert not [link for link in one.links if _outside(link)], name
        assert {"plotly.min.js", "page.js", "style.css"} <= set(one.links), "shared by all pages"
        for link in one.links:
            if link.startswith("data:"):
                continue
            file, _, anchor = link.partition("#")
            assert not file or (folder / file).exists(), (name, link)
            target = parsed[file.removesuffix(".html")] if file and anchor else one
            assert not anchor or anchor in target.ids, (name, link)
    style = (folder / "style.css").read_text()
    assert "url(" not in style
    assert "@import" not in style


def test_site_and_single_file_hold_the_same_figures_and_tables(proven_site, proven):
    single = proven.html.read_text()
    names = [name for text in proven_site.values() for name in _figures(text)]
    assert len(names) == len(set(names))
    assert _figures(single) == {
        name: figure for text in proven_site.values() for name, figure in _figures(text).items()
    }
    assert single.count("<table") == sum(text.count("<table") for text in proven_site.values())


def test_pages_are_small_and_hold_plotly_once(page, built, site):
    assert built.html.stat().st_size < 8_000_000
    assert page.count("plotly.js v") == 1
    assert all(len(text.encode()) < 1_500_000 and "plotly.js v" not in text for text in site.values())


@pytest.mark.parametrize("which", ["built", "proven"])
def test_pages_are_accessible(which, request):
    """Language, one h1, no skipped heading, unique ids, a described figure with its data as a table in words."""
    folder = request.getfixturevalue(which).index.parent
    for path in sorted(folder.glob("*.html")):
        text = path.read_text()
        parsed = _Page(text)
        assert '<html lang="en">' in text
        assert len(parsed.ids) == len(set(parsed.ids)), path.name
        assert parsed.headings.count(1) == 1
        steps = list(zip(parsed.headings, parsed.headings[1:], strict=False))
        assert not [step for step in steps if step[1] - step[0] > 1], path.name
        named = [value for name, value in parsed.attributes if name in ("aria-labelledby", "aria-describedby")]
        assert set(named) <= set(parsed.ids)
        assert parsed.ids.count("main") == 1
        assert 'href="#main"' in text
        figures = re.findall(r'<figure class="chart".*?</figure>', text, re.S)
        assert len(figures) == len(parsed.figures)
        for figure in figures:
            title = re.search(r'<h3 id="title-[^"]+">([^<]+)<', figure).group(1)
            finding = re.search(r'<p id="finding-[^"]+">(.*?)</p>', figure, re.S).group(1)
            assert len(finding) > 40, title
            data = re.search(r"<details.*?</details>", figure, re.S).group(0)
            assert data.count("<tr>") >= 2, f"{title}: no table behind the figure"


def test_traces_and_figures_are_short_and_finite(proven):
    figures = _figures(proven.html.read_text())
    assert len(figures) >= 30
    lengths = {(name, k): len(t.get("y", [])) for name, f in figures.items() for k, t in enumerate(f["data"])}
    assert max(lengths.values()) <= MAX_POINTS
    assert not re.search(r"\bNaN\b|\bInfinity\b", json.dumps(figures))
    assert max(len(json.dumps(figure)) for figure in figures.values()) < 1_000_000


def test_ten_years_of_days_stay_small(quick):
    """The heaviest daily figures at 3,650 days: at most `MAX_POINTS` points a trace and 1 MB a figure."""
    from majors_alts_pipeline.report.charts import render_chart
    from majors_alts_pipeline.report.figures import basket, performance

    days = pl.date_range(date(2015, 1, 1), date(2024, 12, 28), eager=True)
    rng = np.random.default_rng(3)
    daily = pl.concat([
        pl.DataFrame({"date": days, "account": name, "growth": np.exp(np.cumsum(rng.normal(0, 0.03, len(days))))})
        for name in ACCOUNTS
    ]).with_columns(growth_gross=pl.col("growth") * 1.1)  # fmt: skip
    episodes = pl.DataFrame({"label": ["RISK_ON_MAJORS"], "start": [days[5]], "end": [days[90]], "n_days": [86]})
    rolling = pl.concat([
        pl.DataFrame({"date": days, "account": name, "factor": factor, "beta": rng.normal(0, 0.1, len(days)),
                      "se": rng.uniform(0.1, 0.2, len(days)), "ex_ante": rng.normal(0, 0.01, len(days))})
        for name in ("regime", "always_on") for factor in ("btc", "eth")
    ])  # fmt: skip
    for chart in (performance.equity(daily, episodes, ""), basket.rolling_betas_chart(rolling, 60, 0.95)):
        assert len(render_chart(chart)) < 1_000_000
        assert all(len(trace["y"]) <= MAX_POINTS for trace in chart.figure["data"])
        assert "extremes" in chart.caption


def test_equity_shows_every_account_with_its_own_dash_and_the_regimes(page):
    data = _figures(page)["equity"]["data"]
    net = [t for t in data if t["type"] == "scatter" and "fill" not in t and "before" not in t["name"]]
    assert len(net) == 7
    assert len({(t["line"]["color"], t["line"]["dash"]) for t in net}) == 7
    assert {"Risk-on majors", "Risk-on alts"} <= {t["name"] for t in data}


def test_required_chapters_and_sentences(page):
    for words in (
        "Equity of the book",
        "Underwater",
        "Rolling betas",
        "Exposures",
        "Costs and funding over time",
        "Regime timeline",
        "Universe size",
        "Findings of the quality rules",
        "f00dfeed1234",
        "0.1.0+abcdef",
        "study-abc",
        "2023-04-20 to 2025-10-04",
        "1 of 32 assets stop trading inside this lake",
        "Monthly net return",
        "worst drawdowns",
        "Ex post",
        "Basket membership",
        "Turnover",
        "Execution lags side by side",
        "What the lake could not tell",
        "fact_open_interest: absent",
        "Positions closed for want of a price: 2",
        "Out of sample: only the days whose decision a walk-forward model took",
        "– of random regimes: that column is the mean of 16 accounts",
        "Timing placebo: the regime-timed exposure path",
        "Eligible but for funding",
        "the most frequent ALT04 (100 days)",
        "bind the target book before the volatility-target multiplier",
        "against a target of 15.0",
        "Ex ante, 95th percentile",
        "stands in for the day&#x27;s sum on",
        "flatters the short leg",
        "and waited (Alt index 9 days)",
        "(two-sided p = ",
    ):
        assert words in page, words


def test_text_of_the_inputs_is_escaped(page):
    assert "<script>alert(1)" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt; beyond the cap" in page
    assert "/lakes/&lt;one&gt;" in page


def test_lags_are_side_by_side(page):
    table = page[page.index("Execution lags side by side") :]
    order = [table.index(f">{value}<") for value in ("0.64", "0.55", "0.46", "1.91", "1.82", "1.73")]
    assert order == sorted(order)


def test_every_table_is_written_alike_and_short_ones_as_json_too(built, site):
    names = {path.stem for path in built.tables.iterdir()}
    assert {
        "kpis",
        "accounts",
        "drawdowns",
        "monthly_returns",
        "attribution",
        "neutrality",
        "findings",
    } <= names
    heights = {}
    for name in names:
        parquet = pl.read_parquet(built.tables / f"{name}.parquet")
        heights[name] = parquet.height
        header = (built.tables / f"{name}.csv").read_text().splitlines()[0]
        assert header.split(",") == parquet.columns
        assert pl.scan_csv(built.tables / f"{name}.csv").select(pl.len()).collect().item() == parquet.height
        if parquet.height <= JSON_ROWS:
            rows = json.loads((built.tables / f"{name}.json").read_text())
            assert len(rows) == parquet.height
            assert not rows or list(rows[0]) == parquet.columns
        else:
            assert not (built.tables / f"{name}.json").exists()
    assert min(heights.values()) <= JSON_ROWS < max(heights.values())
    linked = set(re.findall(r'href="tables/(\w+)\.json"', site["data"]))
    assert linked == {path.stem for path in built.tables.glob("*.json")}


def test_kpis_on_the_page_are_those_of_the_evaluation(built, page, quick):
    from majors_alts_pipeline.evaluation import kpis
    from majors_alts_pipeline.report.html import number

    expected = kpis.overall(quick.frames["backtest"], quick.frames["panel"], quick.settings)
    assert built.kpis.equals(expected)
    sharpe = expected.filter(account="always_on")["sharpe"].item()
    assert f"a net Sharpe ratio of {number(sharpe)}" in built.verdict
    assert escape(built.verdict) in page


def _digests(folder: Path):
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_bytes_depend_on_the_inputs_only(built, quick, tmp_path):
    """Not on the clock, the place, the order of rows, or whether frames are lazy."""

    def shuffled(name):
        return quick.frames[name].sample(fraction=1.0, shuffle=True, seed=11).lazy()

    again = build_report(shuffled, report_context(quick), tmp_path / "elsewhere" / "report", LAGS)
    assert _digests(again.html.parent) == _digests(built.html.parent)


def test_simulated_is_stamped_everywhere_and_only_then(page, quick, tmp_path):
    built = build_report(quick.load, report_context(quick, simulated=True), tmp_path / "report")
    simulated = built.html.read_text()
    for name in PAGES:
        text = (built.index.parent / f"{name}.html").read_text()
        assert "<title>SIMULATED" in text
        assert "<body class=simulated>" in text
        assert 'class="stamp"' in text
    text = _text(simulated)
    assert text.count("SIMULATED") >= 4
    assert "<title>SIMULATED" in simulated
    assert "<body class=simulated>" in simulated
    plain = _text(page)
    assert "SIMULATED" not in plain
    assert "Other execution lags were not computed" in simulated


def test_a_failed_build_leaves_the_earlier_report(built, quick, tmp_path, monkeypatch):
    out = tmp_path / "report"
    build_report(quick.load, report_context(quick), out, LAGS)
    before = _digests(out)

    def full(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(report_build, "put_in_place", full)
    with pytest.raises(ReportError, match=r"cannot write .*report: No space left on device; .*--out"):
        build_report(quick.load, report_context(quick, study_id="other"), out, LAGS)
    assert _digests(out) == before
    assert [path.name for path in tmp_path.iterdir()] == ["report"]


def test_an_unusable_place_is_one_clear_error(quick, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ReportError, match="cannot write"):
        build_report(quick.load, report_context(quick), tmp_path / "file" / "report")


def test_a_reader_never_sees_half_a_report(tmp_path):
    """Page and tables always carry the same mark while two directories are exchanged again and again."""
    out = tmp_path / "report"

    def fresh(mark):
        new = tmp_path / f".new{mark}"
        (new / "tables").mkdir(parents=True)
        (new / "report.html").write_text(str(mark))
        (new / "tables" / "kpis.csv").write_text(str(mark))
        return new

    place.put_in_place(fresh(0), out)
    stop, absent = threading.Event(), []

    def read():
        while not stop.is_set():
            folder = list(out.iterdir()) if out.exists() else []
            if {path.name for path in folder} != {"report.html", "tables"}:
                absent.append([path.name for path in folder])

    reader = threading.Thread(target=read)
    reader.start()
    for mark in range(1, 200):
        place.put_in_place(fresh(mark), out)
    stop.set()
    reader.join()
    assert (out / "report.html").read_text() == "199"
    assert not absent


def test_without_name_exchange_the_report_is_still_replaced(tmp_path, monkeypatch):
    class NoExchange:
        def __init__(self, *_args, **_kwargs): ...

    monkeypatch.setattr(place.ctypes, "CDLL", NoExchange)
    for mark in ("old", "new"):
        (tmp_path / mark).mkdir()
        (tmp_path / mark / "report.html").write_text(mark)
        place.put_in_place(tmp_path / mark, tmp_path / "report")
    assert (tmp_path / "report" / "report.html").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["report"]


def test_nothing_to_report_on_is_an_error(quick, tmp_path):
    for change, words in (
        (lambda frame: frame.clear(), "backtest holds no day"),
        (lambda frame: frame.filter(pl.col("account") != "btc"), "lacks account.* btc"),
    ):
        frames = quick.frames | {"backtest": change(quick.frames["backtest"])}
        with pytest.raises(ReportError, match=words):
            build_report(frames.__getitem__, report_context(quick), tmp_path / "report")
    frames = quick.frames | {"regime": quick.frames["regime"].clear()}
    with pytest.raises(ReportError, match="regime holds no row of method 'composite'"):
        build_report(frames.__getitem__, report_context(quick), tmp_path / "report")


def test_a_lake_on_which_nothing_traded_is_an_error_with_the_reason(quick, tmp_path):
    flat = quick.frames["backtest"].with_columns(pl.col("turnover", "ret_net", "ret_gross") * 0.0)
    frames = quick.frames | {"backtest": flat}
    with pytest.raises(ReportError, match=r"no account traded .*no betas before the burn-in"):
        build_report(frames.__getitem__, report_context(quick), tmp_path / "report")


def _statistics(low, high, p, difference=0.001, needed=0.0019, share=0.0, shorts=True, baseline=0.0):
    overall = pl.DataFrame(
        {
            "account": ["regime", "always_on"],
            "sharpe": [1.0, 1.0],
            "sharpe_low": [low] * 2,
            "sharpe_high": [high] * 2,
        }
    )
    edge = pl.DataFrame(
        {"p_value": [p], "difference": [difference], "minimum_detectable_effect": [needed], "n_on": 279, "n_off": 585},
        schema_overrides=dict.fromkeys(("p_value", "difference", "minimum_detectable_effect"), pl.Float64),
    )
    assumed = pl.DataFrame(
        {
            "account": ["always_on", "regime"],
            "share": [share] * 2,
            "per_year": [-0.0374, -0.0066],
            "sharpe": [-0.134, -0.066],
            "sharpe_without": [0.081, 0.019],
        }
    ).filter(pl.col("share") > 0)
    empty = pl.DataFrame()
    return Statistics(
        overall=overall, by_regime=empty, by_year=empty, by_fold=empty, neutrality=empty, edge=edge, placebo=empty,
        walk_forward=empty, largest=empty, assumed_funding=assumed, confidence=0.95, stand_in_annual=0.1,
        charged_to_shorts=shorts, baseline_funding=baseline,
    )  # fmt: skip


DAYS = (date(2024, 1, 1), date(2024, 12, 31))
LOWER = (
    "Before costs and funding, price P&L of the always-on book was 6.7 bp a day lower under risk-on majors than "
    "otherwise (two-sided p = 0.289; about 19 bp a day would be needed to be seen with 80 % power)."
)


def _plain(sentence):
    return sentence.replace("\u202f", " ").replace("\N{MINUS SIGN}", "-")


@pytest.mark.parametrize(
    ("low", "high", "p", "difference", "needed", "said"),
    [
        (0.2, 1.8, 0.289, -0.00067, 0.0019, ["above zero", LOWER]),
        (-0.2, 1.8, 0.01, 0.001, 0.0019, ["not distinguishable from zero", "10.0 bp a day higher under", "p = 0.010;"]),
        (-1.8, -0.2, 0.01, -0.001, None, ["below zero", "10.0 bp a day lower under", "(two-sided p = 0.010)."]),
        (None, None, None, None, None, ["too few days for an interval", "cannot be tested", "279 days", "585 under"]),
        (0.2, 1.8, 0.0001, 0.001, 0.0019, ["(two-sided p < 0.001;"]),
    ],
)
def test_verdict_follows_from_the_numbers(low, high, p, difference, needed, said):
    sentence = _plain(_statistics(low, high, p, difference, needed).verdict(*DAYS))
    assert "(366 days)" in sentence
    assert all(words in sentence for words in said), sentence
    assert "unknown" not in sentence


def test_verdict_says_what_assumed_funding_takes_from_both_books():
    sentence = _plain(_statistics(-1.0, 1.0, 0.5, share=1.0).verdict(*DAYS))
    assert sentence.endswith(
        "Funding unknown: a stand-in of 10 % a year charged to shorts is 3.7 % of NAV a year of the always-on book "
        "(net Sharpe ratio with it -0.13, without it 0.08) and 0.7 % of NAV a year of the regime-timed book (net "
        "Sharpe ratio with it -0.07, without it 0.02); the baselines are long only and pay none."
    )


def test_partly_assumed_funding_is_named_with_its_share():
    few = _statistics(-1.0, 1.0, 0.5, share=0.2, shorts=False, baseline=-0.03)
    assert "unknown" not in few.verdict(*DAYS)
    words = _plain(few.assumed_words())
    assert "Funding unknown on 20.0 % of the always-on book's and 20.0 % of the regime-timed book's" in words
    assert "charged to the positions without a rate" in words
    assert "the long-only baselines pay 3.0 % a year on average" in words
    assert few.partly_assumed()
    assert not _statistics(-1.0, 1.0, 0.5, share=0.001).partly_assumed()
    most = _statistics(-1.0, 1.0, 0.5, share=0.5)
    assert not most.partly_assumed()
    assert most.mostly_assumed()
    assert "Funding unknown on 50.0 %" in _plain(most.verdict(*DAYS))


def test_a_lake_without_funding_says_so_in_verdict_and_cards(quick, tmp_path):
    """Sharpe ratios with and without the stand-in come from the daily returns themselves."""
    unknown = {
        "panel": quick.frames["panel"].with_columns(
            funding_rate=pl.lit(None, pl.Float64), funding_kind=pl.lit(None, pl.String)
        ),
        "positions": quick.frames["positions"].with_columns(
            pnl_funding=pl.when(pl.col("leg") == "alt").then(pl.col("value_usd") * 0.1 / 365).otherwise(0.0)
        ),
    }
    built = build_report((quick.frames | unknown).__getitem__, report_context(quick), tmp_path / "report")
    assert "Funding unknown: a stand-in of 10" in built.verdict
    assert "charged to shorts" in built.verdict
    page = built.html.read_text()
    cards = page[page.index('class="tiles') : page.index('class="warnings"')]
    assert cards.count("funding unknown") == 2
    shown = pl.read_parquet(built.tables / "assumed_funding.parquet")
    for row in shown.iter_rows(named=True):
        days = pl.read_parquet(built.tables / "accounts.parquet").filter(account=row["account"])
        returns = days["ret_net"] - days["pnl_funding_assumed"] / (days["nav"] / (1 + days["ret_net"]))
        assert row["share"] == 1
        assert row["sharpe_without"] == pytest.approx(returns.mean() / returns.std() * 365**0.5)
        assert row["sharpe_without"] > row["sharpe"]


def test_no_button_sends_a_chart_away(page):
    assert "showSendToCloud: false" in page


def test_warnings_name_what_would_make_a_reader_doubt(quick, tmp_path):
    mixed = "backtest: 3 days were stored by study old; materialise them again"
    evaluation = quick.settings.evaluation.model_copy(update={"red_flag_sharpe": 0.05})
    settings = quick.settings.model_copy(update={"evaluation": evaluation})
    context = report_context(
        quick, mixed=[mixed], settings=settings, survivorship="Only contracts still listed are present."
    )
    text = build_report(quick.load, context, tmp_path / "report").html.read_text()
    warnings = text[text.index('class="warnings"') : text.index("</ul>")]
    assert mixed in warnings
    assert "beyond the plausible 0.1" in warnings or "beyond the plausible 0.0" in warnings
    assert "1 data-quality findings of severity ERROR" in warnings
    assert "a stand-in of 10\u202f% a year charged to shorts is" in warnings
    assert "Only contracts still listed are present." in text


def test_a_lake_too_short_to_trade_still_reports(tmp_path):
    short = make_world(n_days=40, dies=False)
    built = build_report(short.load, report_context(short), tmp_path / "report")
    assert "too few days for an interval" in built.verdict or "nothing that can be measured" in built.verdict
    text = built.html.read_text()
    assert "survivors" in text
    assert "nan" not in re.sub(r"<script.*?</script>|<style>.*?</style>", "", text, flags=re.S).lower().split()


def test_missing_evidence_says_what_is_missing_and_how_to_make_it(site):
    text = _text(site["evidence"])
    for table in ("edge_by_horizon", "selection", "cscv", "folds", "robustness", "var_exceptions", "red_flags"):
        assert re.search(rf'class="missing">[^<]*\b{table}\b[^<]*`majors-alts run`', text), table
    assert re.search(r'class="missing">[^<]*\bsweep\b[^<]*`majors-alts study sweep`', text)
    assert "table capacity" in site["costs"]
    assert "tables probability_scores, reliability" in site["regime"]
    assert not {"edge", "cscv-logits", "cscv-scatter", "folds", "cpcv", "sweep", "robustness", "var"} & set(
        _figures(site["evidence"])
    )


def test_an_empty_evidence_table_is_said_to_be_empty(quick, tmp_path):
    empty = {name: frame.clear() for name, frame in make_evidence().items()}
    built = build_report(quick.load, report_context(quick), tmp_path / "report", evidence=empty)
    text = _text((built.index.parent / "evidence.html").read_text())
    assert text.count("Not computed") == 1, "a sweep is made on demand"
    assert "table sweep. Make it with `majors-alts study sweep`" in text
    for name in ("edge_by_horizon", "selection", "cscv", "folds", "robustness", "var_exceptions", "red_flags"):
        assert re.search(rf"Nothing to show: tables? [^<]*\b{name}\b", text), name


def test_evidence_is_drawn_and_worded(proven_site, proven):
    figures = {name for text in proven_site.values() for name in _figures(text)}
    assert {
        "edge", "cscv-logits", "cscv-scatter", "folds", "cpcv", "sweep", "robustness", "var", "cost-sweep", "capacity",
        "reliability-book-up-1", "feature-ic", "methods", "weights", "disagreement", "persistence", "contributions",
        "volatility-target", "trackers", "hindsight",
    } <= figures  # fmt: skip
    assert proven.verdict == "The book earned nothing that luck does not explain."
    assert "HINDSIGHT, never traded" in _text(proven_site["regime"])
    index = _text(proven_site["index"])
    assert "The book earned nothing that luck does not explain." in index
    assert "four more years like these" in index
    assert "512 configurations evaluated on this lake" in index
    assert "regime: the Sharpe ratio is beyond what such a book can earn" in index
    assert "after 512 trials" in index
    evidence = _text(proven_site["evidence"])
    said = "12 episodes only: fewer than 30 say little"
    assert f"Risk-on alts: at 1 d {said}; at 60 d {said}; likewise between them (5, 10, 20, 40 d)" in evidence
    assert "Deflated Sharpe ratio" in evidence
    assert "Probability of backtest overfitting 62\u202f% (interval 48\u202f% to 75\u202f%)" in evidence
    assert "1 of 2 rules fired" in evidence
    assert "Best at regime.enter 0.25" in evidence
    assert 'class="missing"' not in evidence
    assert (proven.tables / "sweep.csv").exists()


def test_evidence_that_breaks_its_contract_is_refused(quick, tmp_path):
    wrong = make_evidence()["capacity"].drop("cagr")
    with pytest.raises(ReportError, match=r"evidence table capacity: missing columns \['cagr'\]"):
        build_report(quick.load, report_context(quick), tmp_path / "report", evidence={"capacity": wrong})
    with pytest.raises(ReportError, match=r"unknown evidence table.* capacities"):
        build_report(quick.load, report_context(quick), tmp_path / "report", evidence={"capacities": wrong})


def test_bars_of_the_logit_histogram_lie_on_one_side_of_the_median(proven):
    logits = make_evidence()["cscv"]["logit"]
    trace = _figures(proven.html.read_text())["cscv-logits"]["data"][0]
    below = sum(n for x, n in zip(trace["x"], trace["y"], strict=True) if x < 0)
    assert below == (logits < 0).sum()
    assert sum(trace["y"]) == len(logits)


def test_a_crowded_robustness_test_shows_its_extremes_only(quick, tmp_path):
    from majors_alts_pipeline.report.figures import stress

    base = make_evidence()["robustness"].filter(test="leave_one_asset_out").row(0, named=True)
    rows = [
        base | {"case": f"ALT{k}", "account": account, "rank": k, "sharpe": 0.01 * (k % 3) + (1.0 if k == 40 else 0.0)}
        for k in range(90) for account in ("regime", "always_on")
    ]  # fmt: skip
    chart = stress.robustness_forest(pl.DataFrame(rows), "")
    drawn = chart.figure["data"][0]["y"]
    assert len(drawn) == 12
    assert "Without: ALT40" in drawn
    assert "78 cases between the extremes" in chart.caption


def test_failed_refits_are_warned_of(quick, tmp_path):
    models = quick.frames["regime_model"]
    first = models["date"].min()
    failed = models.with_columns(
        converged=pl.col("date") != first,
        note=pl.when(pl.col("date") == first).then(pl.lit("did not converge in 200 steps")).otherwise(pl.lit("")),
    )
    frames = quick.frames | {"regime_model": failed}
    built = build_report(frames.__getitem__, report_context(quick), tmp_path / "report")
    text = built.html.read_text()
    assert "Refits that did not converge, the earlier model stays in force: composite 1" in text
    assert "did not converge in 200 steps" in text


def test_stills_are_pictures_and_simulated_ones_are_marked(built, quick, tmp_path):
    from PIL import Image

    simulated = build_report(quick.load, report_context(quick, simulated=True), tmp_path / "report")
    for name in ("equity", "edge", "drawdown"):
        plain, marked = (paths.index.parent / "figures" / f"{name}.png" for paths in (built, simulated))
        with Image.open(plain) as one, Image.open(marked) as other:
            assert one.size == other.size == (1100, 550)
            assert np.asarray(one).std() > 5
            assert np.mean(np.asarray(one) != np.asarray(other)) > 0.01, "the watermark changes the picture"


def test_variants_of_another_method_are_held_against_that_method(quick):
    """A study whose method cannot be swept: variant 0 is composite with its settings, and everything says so."""
    from majors_alts_pipeline.report.figures import evidence as figures
    from majors_alts_pipeline.report.tables import sweep

    own = make_evidence()["sweep"]
    settings = quick.settings.model_dump(mode="json")
    wanted = sweep.surface(own, settings)
    other = settings | {"regime": settings["regime"] | {"method": "hmm"}}
    named = own.with_columns(
        overrides=pl.when(pl.col("variant") == 0)
        .then(pl.lit('{"regime.method": "composite"}'))
        .otherwise(pl.col("overrides"))
    )
    found = sweep.surface(named, other)
    assert "regime.method" not in sweep.influence(sweep.parameter_values(named, other))["parameter"].to_list()
    assert (found.x, found.y, found.configured, found.plateau) == (
        wanted.x,
        wanted.y,
        wanted.configured,
        wanted.plateau,
    )
    assert found.cells.equals(wanted.cells)
    assert wanted.of_study
    assert "The frame marks this study's own values." in figures.sweep_surface(wanted, own.height).caption
    assert "The frame marks composite with these settings." in figures.sweep_surface(found, own.height).caption


def test_the_page_compares_the_variants_with_the_method_that_was_swept(quick, tmp_path):
    evidence = make_evidence()
    sweep = evidence["sweep"]
    better = sweep.filter(pl.col("sharpe") > sweep["sharpe"][0]).height
    own = pl.lit('{"regime.method": "composite"}')
    evidence["sweep"] = sweep.with_columns(
        overrides=pl.when(pl.col("variant") == 0).then(own).otherwise(pl.col("overrides"))
    )
    built = build_report(quick.load, report_context(quick), tmp_path / "report", evidence=evidence)
    text = _text((built.index.parent / "evidence.html").read_text())
    assert f"{better} of them beat composite with these settings (" in text
    assert "this study as configured" not in text


def test_a_capital_beyond_the_liquidity_limit_is_not_called_reachable():
    from majors_alts_pipeline.evidence.verdict import MAX_BEYOND_LIQUIDITY
    from majors_alts_pipeline.report.figures import stress

    assert stress.BEYOND == MAX_BEYOND_LIQUIDITY
    capacity = make_evidence()["capacity"]
    chart = stress.capacity_curve(capacity, "")
    assert "at $10 m, the largest capital within its liquidity limit" in chart.caption
    assert "$1 bn" not in chart.caption
    assert "Open markers" in chart.caption
    for trace in chart.figure["data"]:
        assert trace["marker"]["symbol"] == ["circle"] * 3 + ["circle-open"] * 2
    nowhere = stress.capacity_curve(capacity.with_columns(beyond_liquidity=pl.lit(0.06)), "").caption
    assert "beyond its liquidity limit at every capital tried" in nowhere
    assert "Open markers" not in stress.capacity_curve(capacity.with_columns(beyond_liquidity=pl.lit(0.05)), "").caption


def test_every_fold_is_counted_once_and_paths_are_in_order():
    from majors_alts_pipeline.report.figures import evidence as figures

    folds = make_evidence()["folds"]
    walk = folds.filter(scheme="walk_forward")
    idle = walk.with_columns(oos_sharpe=pl.when(pl.col("fold") == walk["fold"][0]).then(None).otherwise("oos_sharpe"))
    up = int((idle["oos_sharpe"] > 0).sum())
    down = walk.height - 1 - up
    said = f"Out of sample {up} of {walk.height} folds earned money, {down} did not and 1 held no position."
    assert figures.fold_strip(idle, "").caption.startswith(said)
    paths = folds.filter(scheme="cpcv")
    drawn = figures.cpcv_paths(paths.sample(fraction=1.0, shuffle=True, seed=2), "").figure
    assert drawn["data"][0]["y"] == [f"path {k}" for k in range(1, paths.height + 1)]
    assert drawn["layout"]["yaxis"]["autorange"] == "reversed"


def test_a_note_that_all_cases_of_a_test_share_is_said_once(quick, tmp_path):
    evidence = make_evidence()
    without = (pl.col("test") == "leave_one_asset_out") & (pl.col("case") != "as configured")
    noted = pl.concat_str(pl.lit("without "), "case", pl.lit("; labels as in the study"))
    evidence["robustness"] = evidence["robustness"].with_columns(
        note=pl.when(without).then(noted).when(pl.col("case") == "as configured").then(pl.lit("the study itself"))
        .otherwise(pl.col("note"))
    )  # fmt: skip
    assert evidence["robustness"].filter(without).height > 2
    built = build_report(quick.load, report_context(quick), tmp_path / "report", evidence=evidence)
    text = _text((built.index.parent / "evidence.html").read_text())
    assert text.count("labels as in the study") == 1
    assert "<li>Without: labels as in the study.</li>" in text
    for case in evidence["robustness"].filter(without)["case"].unique():
        assert f">without {case}<" in text


@pytest.mark.parametrize(
    ("value", "said"),
    [(0.0000123456, "$0.0000123"), (0.04, "$0.0400"), (0.5, "$0.5000"), (12.3, "$12.30"), (1234.5, "$1,234"),
     (0.0, "$0")],
)  # fmt: skip
def test_small_prices_keep_their_digits(value, said):
    from majors_alts_pipeline.report.html import price_usd

    assert _plain(price_usd(value)) == said


@pytest.mark.parametrize(
    ("value", "said"), [(-0.5, "-50.0 %"), (-0.9999, "-99.99 %"), (-0.9999817, "-99.998 %"), (-1.0, "-100.0 %")]
)
def test_a_fall_is_total_only_when_nothing_is_left(value, said):
    from majors_alts_pipeline.report.html import percent_below

    assert _plain(percent_below(value)) == said
