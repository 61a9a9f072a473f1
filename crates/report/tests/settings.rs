//! Settings that were tried and scores of several trainings, on the page and in the tables.

use report::{Config, Report};
use stage::{Io, Label, Stage};
use tables::{MethodCard, Score, Sensitivity, Suspect};

#[test]
fn settings_and_trainings_are_told() {
    let root = tempfile::tempdir().unwrap();
    let (scores, tried) = (root.path().join("scores"), root.path().join("tried"));
    for path in [&scores, &tried] {
        std::fs::create_dir(path).unwrap();
    }
    let rows = (0..5_u32).map(|at| Score {
        method: "logra".to_owned(),
        sample_id: u64::from(at),
        score: Some(f64::from(at)),
        std_error: Some(f64::from(at) / 1000.0),
        n_updates: 3,
        suspect: Suspect::Low,
    });
    tables::write_all(&scores, rows).unwrap();
    let card = MethodCard {
        method: "logra".to_owned(),
        family: "curvature".to_owned(),
        revision: 1,
        is_signed: true,
        suspect: Suspect::Low,
        estimand: "What it is.".to_owned(),
        paper: String::new(),
        parameters: "{\"damping\":1.0}".to_owned(),
        n_scored: 5,
        n_unscored: 0,
        n_members: 3,
        stability: Some(0.625),
    };
    tables::write_all(&scores, [card]).unwrap();
    let setting = |setting, criterion, is_chosen| Sensitivity {
        method: "logra".to_owned(),
        setting,
        parameters: format!("{{\"damping\":{setting}.5}}"),
        criterion,
        std_error: criterion.map(|_| 0.25),
        n_requests: 70,
        spearman: Some(0.5),
        is_chosen,
    };
    let rows = [setting(0, Some(1.5), true), setting(1, None, false)];
    tables::write_all(&tried, rows).unwrap();
    let label = Label::parse("node=tuned,method=logra").unwrap();
    let out = root.path().join("out");
    let io = Io::new(&out, root.path())
        .with_input("scores", label.clone(), &scores)
        .with_input("sensitivity", label, &tried);
    Report::run(&Config::default(), &io).unwrap();
    let page = std::fs::read_to_string(out.join("html/index.html")).unwrap();
    let told = "mean over 3; rank correlation of every two 0.625; median standard error 2.0e-3";
    assert!(page.contains(told));
    assert!(page.contains("Settings that were tried"));
    let text = std::fs::read_to_string(out.join("tables/sensitivity.csv")).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 3);
    assert!(lines[0].contains("criterion_low"), "{}", lines[0]);
    // 1.5 and 1.96 standard errors to either side.
    assert!(lines[1].contains("1.5,1.01,1.99,0.5,yes"), "{}", lines[1]);
    assert!(lines[2].ends_with(",,,0.5,no"), "{}", lines[2]);
}
