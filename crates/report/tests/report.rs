//! The whole stage on synthetic results: what is on the page and in the folder of tables.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod fixture;

use std::collections::BTreeMap;
use std::path::Path;

use report::{Config, Report};
use stage::{Io, Stage};
use tables::{
    Audit, Conclusion, Influence, Measured, Metric, Reject, SampleTier, ScoreGroup, Tier,
};

fn config() -> Config {
    Config {
        title: "UCI Online Retail".to_owned(),
        source:
            "541,909 lines of a UK gift shop, 2010-12 to 2011-12 (Chen, Sain, Guo 2012; CC BY 4.0)"
                .to_owned(),
        published: Vec::new(),
    }
}

fn page(io: &Io, out: &Path) -> String {
    Report::run(&config(), io).unwrap();
    std::fs::read_to_string(out.join("html/index.html")).unwrap()
}

/// All files below a directory by their names.
fn files(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            for (name, bytes) in files(&path) {
                let folder = path.file_name().unwrap().to_string_lossy().into_owned();
                found.insert(format!("{folder}/{name}"), bytes);
            }
        } else {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            found.insert(name, std::fs::read(&path).unwrap());
        }
    }
    found
}

/// Checks that tags balance, that attributes are quoted and that nothing raw is left.
fn check_well_formed(page: &str) {
    let body = page.strip_prefix("<!DOCTYPE html>\n").unwrap();
    let mut open: Vec<&str> = Vec::new();
    let mut rest = body;
    while let Some(start) = rest.find('<') {
        let (text, after) = rest.split_at(start);
        if open.last() != Some(&"style") {
            assert!(!text.contains('>'), "a bare > in {text:?}");
            for piece in text.split('&').skip(1) {
                let entity = piece.split(';').next().unwrap();
                let known = ["amp", "lt", "gt", "quot", "#39"];
                assert!(known.contains(&entity), "&{entity} in {text:?}");
            }
        }
        let end = after.find('>').unwrap();
        let tag = &after[1..end];
        rest = &after[end + 1..];
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(
                open.pop(),
                Some(name),
                "near {}",
                &after[..80.min(after.len())]
            );
        } else {
            let name = tag.split_whitespace().next().unwrap();
            assert_eq!(tag.matches('"').count() % 2, 0, "{tag}");
            assert!(name != "script" && name != "link", "{tag}");
            if !matches!(name, "meta" | "br") {
                open.push(name);
            }
        }
    }
    assert!(open.is_empty(), "{open:?}");
}

fn check_numbers(text: &str) {
    for wrong in ["NaN", "inf%", ">inf", "−inf", "−0.0000"] {
        assert!(!text.contains(wrong), "{wrong}");
    }
}

#[test]
fn a_full_report_is_one_well_formed_file() {
    // Left in place, to be looked at.
    let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join("report");
    let _ = std::fs::remove_dir_all(&root);
    let out = root.join("out");
    let page = page(&fixture::everything(&root, &out), &out);
    check_well_formed(&page);
    check_numbers(&page);
    for outside in ["http:", "https:", "@import", "url(", "src="] {
        assert!(!page.contains(outside), "{outside}");
    }
    for id in [
        "answer",
        "detection",
        "action",
        "cost",
        "data",
        "ranking",
        "agreement",
        "methods",
        "record",
    ] {
        assert!(page.contains(&format!("<section id=\"{id}\"")), "{id}");
        assert!(page.contains(&format!("href=\"#{id}\"")), "{id}");
    }
    assert!(!page.contains("class=\"missing\""));
    // What the answer rests on.
    assert!(page.contains("finds the planted noise best"));
    assert!(page.contains("<div class=\"big\">0.835</div>"));
    assert!(page.contains("<div class=\"big\">+0.0046</div>"));
    assert!(page.contains("<div class=\"big\">+0.0068</div>"));
    assert!(page.contains("<div class=\"big\">48\u{202f}s</div>"));
    assert!(page.contains("knn_shapley took 48 s of wall time"));
    assert!(page.contains("uses the future"));
    assert!(page.contains("leave_one_out · score_popularity"));
    // Raw bytes of a refused line are shown, not run.
    assert!(page.contains("&lt;script&gt;alert(1)&lt;/script&gt;,试金石"));
}

#[test]
fn the_answer_comes_first_and_the_data_tell_their_ties_and_repeats() {
    let root = tempfile::tempdir().unwrap();
    let out = root.path().join("out");
    let page = page(&fixture::everything(root.path(), &out), &out);
    let sections: Vec<&str> = page
        .split("<section id=\"")
        .skip(1)
        .filter_map(|rest| rest.split('"').next())
        .collect();
    assert_eq!(
        sections,
        [
            "answer",
            "detection",
            "action",
            "cost",
            "data",
            "ranking",
            "agreement",
            "methods",
            "record"
        ]
    );
    // The shares of the fixture's profile, where the data are described.
    let data = page.split("<section id=\"data\"").nth(1).unwrap();
    let data = data.split("</section>").next().unwrap();
    for (name, words) in [
        ("equal_instant_frac", "share their instant with another"),
        ("repeat_frac", "are repeats: they were in the history"),
    ] {
        let share = fixture::profile_value(name);
        let shown = format!("{:.1}\u{202f}%", 100.0 * share);
        assert!(data.contains(&shown), "{name}: {shown} is missing");
        assert!(data.contains(words), "{name}");
    }
}

#[test]
fn arms_say_how_many_samples_they_dropped() {
    let root = tempfile::tempdir().unwrap();
    let out = root.path().join("out");
    let page = page(&fixture::everything(root.path(), &out), &out);
    assert!(page.contains("samples dropped"));
    let table = std::fs::read(out.join("tables/action.csv")).unwrap();
    let mut reader = csv::Reader::from_reader(table.as_slice());
    let headers = reader.headers().unwrap().clone();
    let column = |name: &str| headers.iter().position(|found| found == name).unwrap();
    let (arm, removed) = (column("arm"), column("n_removed"));
    let mut n_rows = 0;
    for row in reader.records() {
        let row = row.unwrap();
        let wanted = match &row[arm] {
            "nothing dropped" => "0",
            "knn_density" => "30344",
            _ => "31004",
        };
        assert_eq!(&row[removed], wanted, "{row:?}");
        n_rows += 1;
    }
    // Three models, each with a base, nine methods and the bound.
    assert_eq!(n_rows, 33);
}

#[test]
fn what_the_simulator_knows_of_has_a_table_of_its_own() {
    let root = tempfile::tempdir().unwrap();
    let out = root.path().join("out");
    let page = page(&fixture::everything(root.path(), &out), &out);
    assert!(page.contains("Detection of bots and accidents of the simulator"));
    let table = std::fs::read_to_string(out.join("tables/detection_simulated.csv")).unwrap();
    let of_kind = |kind: &str| {
        let start = format!("{kind},");
        table
            .lines()
            .filter(|line| line.starts_with(&start))
            .count()
    };
    // Nine methods, one of them on two models.
    assert_eq!((of_kind("accident"), of_kind("bot")), (10, 10), "{table}");
    let planted = std::fs::read_to_string(out.join("tables/detection_by_kind.csv")).unwrap();
    assert!(!planted.contains("truth"), "{planted}");
}

#[test]
fn what_cannot_apply_is_a_row() {
    let root = tempfile::tempdir().unwrap();
    let out = root.path().join("out");
    let label = stage::Label::parse("method=leave_one_out,model=itemknn,node=influence").unwrap();
    let reason = "method `leave_one_out` needs `counts`, which `itemknn` does not give";
    let io = fixture::everything(root.path(), &out).with_absent("scores", label, reason);
    let page = page(&io, &out);
    assert!(page.contains("Not applicable"));
    assert!(page.contains("influence[method=leave_one_out,model=itemknn]"));
    let table = std::fs::read_to_string(out.join("tables/not_applicable.csv")).unwrap();
    assert_eq!(table.lines().count(), 2, "{table}");
    assert!(table.contains(reason), "{table}");
}

#[test]
fn published_figures_stand_beside_ours_with_a_verdict() {
    let root = tempfile::tempdir().unwrap();
    let out = root.path().join("out");
    let io = fixture::everything(root.path(), &out);
    let published = |model: &str, value, low| report::Published {
        model: model.to_owned(),
        metric: "ndcg@10".to_owned(),
        candidates: report::Candidates::All,
        value,
        low,
        high: None,
        source: "a paper".to_owned(),
    };
    let mut config = config();
    config.published = vec![
        published("markov", 0.9, Some(0.01)),
        published("itemknn", 0.9, None),
        published("sasrec", 0.9, None),
        // The same model by another protocol is another figure.
        report::Published {
            candidates: report::Candidates::New,
            ..published("markov", 0.9, Some(0.01))
        },
    ];
    Report::run(&config, &io).unwrap();
    let table = std::fs::read_to_string(out.join("tables/published.csv")).unwrap();
    let verdicts: Vec<&str> = ["pass", "FAIL", "not run"]
        .into_iter()
        .filter(|verdict| table.contains(verdict))
        .collect();
    assert_eq!(verdicts.len(), 3, "{table}");
    // The spread over seeds stands beside the mean, with their number.
    let rows: Vec<&str> = table.lines().collect();
    assert!(rows[1].contains(",0.0012,3,"), "{table}");
    assert!(rows[2].contains(",,1,"), "{table}");
    let page = std::fs::read_to_string(out.join("html/index.html")).unwrap();
    assert!(
        page.contains("2 of 4 published figures lie within their bands."),
        "{page}"
    );
    config.published[0].low = Some(2.0);
    assert!(Report::check(&config, &stage::Offers::new()).is_err());
}

#[test]
fn every_drawing_has_a_name() {
    let root = tempfile::tempdir().unwrap();
    let out = root.path().join("out");
    let page = page(&fixture::everything(root.path(), &out), &out);
    let images: Vec<&str> = page.split("role=\"img\">").skip(1).collect();
    assert!(images.len() > 40);
    for image in images {
        assert!(image.starts_with("<title>"), "{}", &image[..60]);
        assert!(!image.starts_with("<title></title>"));
    }
}

#[test]
fn same_inputs_give_the_same_bytes() {
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let all = [&first, &second].map(|root| {
        let out = root.path().join("out");
        Report::run(&config(), &fixture::everything(root.path(), &out)).unwrap();
        files(&out)
    });
    assert!(all[0].len() > 20);
    assert_eq!(all[0], all[1]);
}

#[test]
fn tables_hold_no_measured_costs() {
    let root = tempfile::tempdir().unwrap();
    let (dear, cheap) = (root.path().join("dear"), root.path().join("cheap"));
    Report::run(&config(), &fixture::everything(root.path(), &dear)).unwrap();
    let other = tempfile::tempdir().unwrap();
    let io = fixture::everything(other.path(), &cheap);
    // The same study on a machine that is slower by far.
    let costs = other.path().join("costs");
    let mut rows: Vec<Measured> = tables::read_all(&costs).unwrap();
    for row in &mut rows {
        row.wall_ms *= 1000;
        row.peak_bytes *= 10;
        row.processor = "a slow one".to_owned();
    }
    std::fs::remove_file(costs.join("measured.parquet")).unwrap();
    tables::write_all(&costs, rows).unwrap();
    Report::run(&config(), &io).unwrap();
    assert_eq!(files(&dear.join("tables")), files(&cheap.join("tables")));
    assert_ne!(files(&dear.join("html")), files(&cheap.join("html")));
    for (name, bytes) in files(&dear.join("tables")) {
        let text = String::from_utf8(bytes).unwrap();
        for measured in ["wall_ms", "processor", "MiB", "wall time"] {
            assert!(!text.contains(measured), "{measured} in {name}");
        }
        check_numbers(&text);
    }
}

#[test]
fn tables_read_back_as_csv() {
    let root = tempfile::tempdir().unwrap();
    let out = root.path().join("out");
    Report::run(&config(), &fixture::everything(root.path(), &out)).unwrap();
    for (name, bytes) in files(&out.join("tables")) {
        if Path::new(&name)
            .extension()
            .is_none_or(|extension| extension != "csv")
        {
            continue;
        }
        let mut reader = csv::ReaderBuilder::new()
            .flexible(false)
            .from_reader(bytes.as_slice());
        let records: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
        assert!(!records.is_empty(), "{name}");
        if name == "rejects.csv" {
            assert_eq!(&records[0][3], "\"<script>alert(1)</script>,试金石");
        }
        if name == "metrics.csv" {
            let found = records
                .iter()
                .find(|row| &row[1] == "auroc" && &row[6] == "knn_shapley" && &row[3] == "all");
            assert_eq!(&found.unwrap()[9], "0.8347");
        }
    }
}

#[test]
fn without_any_input_every_section_says_what_is_missing() {
    let root = tempfile::tempdir().unwrap();
    let out = root.path().join("out");
    let page = page(&Io::new(&out, root.path()), &out);
    check_well_formed(&page);
    for role in [
        "metrics",
        "conclusions",
        "costs",
        "audit",
        "profile",
        "scores",
        "training",
        "rejects",
    ] {
        assert!(
            page.contains(&format!("no <code>{role}</code> were wired")),
            "{role}"
        );
    }
    assert_eq!(page.matches("<section ").count(), 9);
}

#[test]
fn empty_tables_are_told_from_missing_ones() {
    let root = tempfile::tempdir().unwrap();
    let out = root.path().join("out");
    let io = fixture::only::<Metric>(root.path(), &out, "metrics", Vec::new());
    let page = page(&io, &out);
    check_well_formed(&page);
    assert!(page.contains("the wired <code>metrics</code> hold nothing of the kind"));
    let other = tempfile::tempdir().unwrap();
    let out = other.path().join("out");
    let io = fixture::only::<Reject>(other.path(), &out, "rejects", Vec::new());
    assert!(self::page(&io, &out).contains("No record was refused."));
}

#[test]
fn one_item_of_everything_is_drawn() {
    let is_first = |metric: &Metric| match metric.family.as_str() {
        "detection" => metric.method.as_deref() == Some("knn_shapley"),
        "action" => metric.method.as_deref() == Some("knn_shapley") || metric.action.is_none(),
        "ranking" => metric.model.as_deref() == Some("markov") && !metric.metric.contains("_vs_"),
        _ => metric.label.contains("other_method=popularity"),
    };
    let metrics: Vec<Metric> = fixture::metrics()
        .into_iter()
        .filter(is_first)
        .map(|metric| Metric {
            // Nor may an interval without width break a scale.
            low: Some(metric.value),
            high: Some(metric.value),
            ..metric
        })
        .collect();
    let root = tempfile::tempdir().unwrap();
    let out = root.path().join("out");
    let step = Audit {
        step: 0,
        stage: "ingest".to_owned(),
        name: "read".to_owned(),
        rows_in: 0,
        rows_out: 0,
        uses_future: false,
        note: String::new(),
    };
    let audit = fixture::only(root.path(), &out, "audit", vec![step]);
    let io = fixture::only(root.path(), &out, "metrics", metrics).with_input(
        "audit",
        stage::Label::default(),
        audit.input("audit").unwrap(),
    );
    let page = page(&io, &out);
    check_well_formed(&page);
    check_numbers(&page);
    assert!(page.contains("<div class=\"big\">0.835</div>"));
}

#[test]
fn what_data_says_is_never_markup() {
    let root = tempfile::tempdir().unwrap();
    let out = root.path().join("out");
    let evil = "</p><script>alert(\"1\")</script>&amp;'\u{0}";
    let conclusion = Conclusion {
        rank: 0,
        topic: "detection".to_owned(),
        text: evil.to_owned(),
        evidence: evil.to_owned(),
    };
    let io = fixture::only(root.path(), &out, "conclusions", vec![conclusion]);
    let config = Config {
        title: evil.to_owned(),
        source: evil.to_owned(),
        published: Vec::new(),
    };
    Report::run(&config, &io).unwrap();
    let page = std::fs::read_to_string(out.join("html/index.html")).unwrap();
    check_well_formed(&page);
    assert!(
        page.contains("&lt;script&gt;alert(&quot;1&quot;)&lt;/script&gt;&amp;amp;&#39;\u{fffd}")
    );
    let markdown = std::fs::read_to_string(out.join("tables/conclusions.md")).unwrap();
    assert!(!markdown.contains("<script>"), "{markdown}");
}

#[test]
fn a_number_that_is_not_one_is_refused_by_name() {
    let root = tempfile::tempdir().unwrap();
    let out = root.path().join("out");
    let mut metrics = fixture::metrics();
    metrics[3].value = f64::NAN;
    let io = fixture::only(root.path(), &out, "metrics", metrics);
    let failure = Report::run(&config(), &io).unwrap_err();
    assert_eq!(failure.exit, stage::Exit::Data);
    let text = failure.to_string();
    assert!(text.contains("`metrics`") && text.contains("NaN"), "{text}");
    assert!(!out.join("html/index.html").exists());
}

#[test]
fn described_fields_are_those_of_the_configuration() {
    let description = Report::description();
    let described: Vec<&str> = description.config.iter().map(|field| field.name).collect();
    let config = serde_json::to_value(Config::default()).unwrap();
    let fields: Vec<&str> = config
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    let mut sorted = described.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, fields);
    assert!(
        description
            .inputs
            .iter()
            .all(|input| input.is_optional && input.is_many)
    );
    assert!(description.outputs[1].is_measured && !description.outputs[0].is_measured);
}

fn group(unit: &str, key: usize, z: Option<f64>) -> ScoreGroup {
    ScoreGroup {
        method: "influence".to_owned(),
        unit: unit.to_owned(),
        key: key.to_string(),
        name: None,
        n_samples: 9,
        n_scored: 9,
        sum: Some(-4.5),
        mean: Some(-0.5),
        low_frac: Some(0.25),
        z,
        is_anomalous: z.is_some_and(|z| z.abs() > 3.5),
    }
}

fn tier(sample_id: u64, score: Option<f64>, tier: Tier) -> SampleTier {
    SampleTier {
        method: "influence".to_owned(),
        sample_id,
        score,
        tier,
    }
}

fn influence(request: u32, is_helpful: bool, rank: u32) -> Influence {
    Influence {
        method: "influence".to_owned(),
        request,
        is_helpful,
        rank,
        sample_id: 77,
        score: 0.25,
        item: 3,
        item_name: Some("red <mug>".to_owned()),
        is_same_target: true,
        is_same_user: None,
        is_in_last_basket: None,
        shared_items: Vec::new(),
        layers: vec!["head".to_owned()],
        layer_scores: vec![0.25],
        reason: "trains on what is asked for, red <mug>".to_owned(),
    }
}

#[test]
fn tiers_groups_and_influences_are_shown_by_their_ends() {
    let root = tempfile::tempdir().unwrap();
    let out = root.path().join("out");
    let tiers = vec![
        tier(1, Some(-2.0), Tier::Low),
        tier(2, None, Tier::Unscored),
        tier(3, Some(-3.0), Tier::Low),
        tier(4, Some(5.0), Tier::High),
    ];
    // 20 judged users, one that is too small, and no item that is large enough.
    let mut groups: Vec<ScoreGroup> = (0..20)
        .map(|key| group("user", key, Some(key as f64 - 4.0)))
        .collect();
    groups.extend([group("user", 20, None), group("item", 0, None)]);
    let influences: Vec<Influence> = (0..7)
        .flat_map(|request| {
            [true, false].map(|side| (0..4).map(move |rank| influence(request, side, rank)))
        })
        .flatten()
        .collect();
    let wire = |name: &str| root.path().join(name);
    for name in ["groups", "influences"] {
        std::fs::create_dir_all(wire(name)).unwrap();
    }
    tables::write_all(&wire("groups"), groups).unwrap();
    tables::write_all(&wire("influences"), influences).unwrap();
    let label = stage::Label::parse("node=score,method=influence").unwrap();
    let io = fixture::only(root.path(), &out, "tiers", tiers)
        .with_input("groups", label.clone(), wire("groups"))
        .with_input("influences", label, wire("influences"));
    let page = page(&io, &out);
    check_well_formed(&page);
    assert!(page.contains("id=\"groups\"") && page.contains("id=\"influences\""));
    let lines = |name: &str| -> Vec<String> {
        let text = std::fs::read_to_string(out.join(format!("tables/{name}.csv"))).unwrap();
        text.lines().skip(1).map(str::to_owned).collect()
    };
    assert_eq!(
        lines("tiers"),
        [
            "influence,scores,low,2,-3,-2",
            "influence,scores,high,1,5,5",
            "influence,scores,unscored,1,,",
        ]
    );
    // z from -4 to 15: one below -3.5, twelve above 3.5.
    assert_eq!(
        lines("groups"),
        [
            "influence,score,user,21,20,1,12",
            "influence,score,item,1,0,0,0"
        ]
    );
    let outermost = lines("outermost_groups");
    assert_eq!(outermost.len(), 10);
    assert!(
        outermost[0].contains("user,0,9,-4.5,-0.5,0.25,-4,yes"),
        "{}",
        outermost[0]
    );
    assert!(outermost[9].contains("user,19,9,"), "{}", outermost[9]);
    // Five requests, two ends, three samples.
    assert_eq!(lines("influences").len(), 30);
}
