//! Looking at artifacts.

use crate::fake::{Script, chain};

#[test]
fn an_artifact_is_shown_by_id_and_by_name() {
    let bench = chain();
    bench.run().exits_with(0);
    let store = bench.store();
    let record = store.latest_records("source").unwrap().remove(0);
    let id = record.outputs["text"].id;
    for name in [
        id.to_string(),
        id.short(),
        format!("text@{}", id.short()),
        "raw.text".to_owned(),
        "raw".to_owned(),
    ] {
        bench.call(&["show", &name]).exits_with(0).says(&[
            &id.to_string(),
            "text@",
            "stage source, output text",
        ]);
    }
    bench
        .call(&["show", "raw.measured", "p.yaml"])
        .exits_with(0)
        .says(&[
            "What one node cost when it ran.",
            "peak_bytes",
            "Peak resident memory of the process.",
            "1 row\n",
        ]);
    bench
        .call(&["show", "raw.texts"])
        .exits_with(2)
        .says(&["did you mean `text`?"]);
    bench
        .call(&["show", "row.text"])
        .exits_with(2)
        .says(&["did you mean `raw`?"]);
    bench.call(&["show", "0000000000"]).exits_with(2);
}

#[test]
fn json_and_tensors_are_shown() {
    // A header of 2 tensors, in the format's own layout: length, JSON, bytes.
    let header = r#"{"b":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},"a":{"dtype":"U64","shape":[1],"data_offsets":[24,32]}}"#;
    let length = format!("\\{:03o}", header.len());
    let script = Script::new("maker").output("model", "model").body(&format!(
        "printf '{length}\\000\\000\\000\\000\\000\\000\\000' > \"$out/model/weights.safetensors\"\nprintf '%s' '{header}' >> \"$out/model/weights.safetensors\"\nhead -c 32 /dev/zero >> \"$out/model/weights.safetensors\"\necho '{{\"model\":\"x\"}}' > \"$out/model/model.json\"",
    ));
    let bench = crate::fake::Bench::new(&[script], "  a: { stage: ./maker }\n");
    bench.run().exits_with(0);
    bench.call(&["show", "a"]).exits_with(0).says(&[
        "\"model\": \"x\"",
        "  tensor  type  shape\n  a       U64   [1]\n  b       F32   [2,3]\n",
    ]);
}

#[test]
fn what_was_not_made_yet_is_not_shown() {
    let bench = chain();
    bench
        .call(&["show", "raw", "p.yaml"])
        .exits_with(2)
        .says(&["`raw` is not up to date", "--only 'raw'"]);
    bench
        .call(&["show", "raw"])
        .exits_with(2)
        .says(&["the store has no artifact `raw`"]);
}
