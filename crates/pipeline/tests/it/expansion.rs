//! Which elements nodes become, what they are called, and what each of them reads.

use std::fmt::Write;

use pipeline::description::Description;
use pipeline::expand::expand;
use pipeline::grammar::Pipeline;
use serde_json::json;

/// A stage whose role `many` takes several, and whose roles `one` and `other` take one.
fn description() -> Description {
    let input = |role: &str, is_many: bool| json!({ "role": role, "kinds": ["x"], "is_optional": true, "is_many": is_many });
    serde_json::from_value(json!({
        "protocol": 1,
        "name": "any",
        "uses_seed": true,
        "inputs": [input("one", false), input("other", false), input("many", true)],
        "outputs": [{ "role": "x", "kind": "x" }],
    }))
    .unwrap()
}

/// Every element with its seed and what it reads, or the message.
fn expanded(nodes: &str) -> String {
    let text = format!("pipeline: shop\nseed: 7\nnodes:\n{nodes}");
    let pipeline = Pipeline::parse(&text, "shop.yaml").unwrap();
    let description = description();
    let descriptions = vec![&description; pipeline.nodes.len()];
    let elements = match expand(&pipeline, &descriptions) {
        Ok(elements) => elements,
        Err(failure) => return failure.to_string(),
    };
    let mut listing = String::new();
    for element in &elements {
        writeln!(
            listing,
            "{} {}",
            element.name,
            serde_json::Value::from(element.with.clone())
        )
        .unwrap();
        for wire in &element.wires {
            let label = if wire.is_many {
                format!(" [{}]", wire.label)
            } else {
                String::new()
            };
            writeln!(
                listing,
                "  {} <- {}{label}",
                wire.role, elements[wire.producer].name
            )
            .unwrap();
        }
    }
    listing
}

#[test]
fn axes_multiply_and_names_say_where_an_element_stands() {
    insta::assert_snapshot!(expanded(
        "  model: { stage: s, for: { model: [popularity, { name: sasrec, dim: 64 }], seed: [1, 2] } }\n"
    ), @r#"
    model[popularity,seed=1] {"model":"popularity","seed":1}
    model[popularity,seed=2] {"model":"popularity","seed":2}
    model[sasrec,seed=1] {"model":{"dim":64,"name":"sasrec"},"seed":1}
    model[sasrec,seed=2] {"model":{"dim":64,"name":"sasrec"},"seed":2}
    "#);
}

#[test]
fn numbers_are_written_with_their_axis_and_dotted_axes_set_nested_fields() {
    insta::assert_snapshot!(expanded(
        "  cut: { stage: s, with: { act: { kind: drop }, seed: 1 }, for: { act.share: [0.1, 1], flag: [true] } }\n"
    ), @r#"
    cut[act.share=0.1,flag=true] {"act":{"kind":"drop","share":0.1},"flag":true,"seed":1}
    cut[act.share=1,flag=true] {"act":{"kind":"drop","share":1},"flag":true,"seed":1}
    "#);
}

#[test]
fn a_single_input_is_followed_and_a_role_that_takes_several_gathers() {
    insta::assert_snapshot!(expanded(
        "  model: { stage: s, for: { model: [a, b] } }
  probe: { stage: s, in: { one: model } }
  score: { stage: s, in: { one: probe }, for: { method: [m, n] } }
  result: { stage: s, in: { many: [model, score] } }
"
    ), @r#"
    model[a] {"model":"a","seed":7}
    model[b] {"model":"b","seed":7}
    probe[a] {"seed":7}
      one <- model[a]
    probe[b] {"seed":7}
      one <- model[b]
    score[m,model=a] {"method":"m","seed":7}
      one <- probe[a]
    score[m,model=b] {"method":"m","seed":7}
      one <- probe[b]
    score[n,model=a] {"method":"n","seed":7}
      one <- probe[a]
    score[n,model=b] {"method":"n","seed":7}
      one <- probe[b]
    result {"seed":7}
      many <- model[a] [model=a,node=model]
      many <- model[b] [model=b,node=model]
      many <- score[m,model=a] [method=m,model=a,node=score]
      many <- score[m,model=b] [method=m,model=b,node=score]
      many <- score[n,model=a] [method=n,model=a,node=score]
      many <- score[n,model=b] [method=n,model=b,node=score]
    "#);
}

#[test]
fn an_axis_that_both_sides_have_is_followed_even_where_several_are_taken() {
    insta::assert_snapshot!(expanded(
        "  split: { stage: s, for: { seed: [1, 2] } }
  model: { stage: s, in: { one: split }, for: { model: [a, b] } }
  result: { stage: s, in: { one: split, many: model } }
"
    ), @r#"
    split[seed=1] {"seed":1}
    split[seed=2] {"seed":2}
    model[a,seed=1] {"model":"a","seed":1}
      one <- split[seed=1]
    model[a,seed=2] {"model":"a","seed":2}
      one <- split[seed=2]
    model[b,seed=1] {"model":"b","seed":1}
      one <- split[seed=1]
    model[b,seed=2] {"model":"b","seed":2}
      one <- split[seed=2]
    result[seed=1] {"seed":1}
      one <- split[seed=1]
      many <- model[a,seed=1] [model=a,node=model,seed=1]
      many <- model[b,seed=1] [model=b,node=model,seed=1]
    result[seed=2] {"seed":2}
      one <- split[seed=2]
      many <- model[a,seed=2] [model=a,node=model,seed=2]
      many <- model[b,seed=2] [model=b,node=model,seed=2]
    "#);
}

#[test]
fn what_is_selected_is_neither_followed_nor_gathered() {
    insta::assert_snapshot!(expanded(
        "  score: { stage: s, for: { method: [m, n], k: [1, 2] } }
  one: { stage: s, in: { one: 'score[m]' } }
  exact: { stage: s, in: { one: 'score[n,k=2].x' } }
  some: { stage: s, in: { many: 'score[k=1]' } }
"
    ), @r#"
    score[m,k=1] {"k":1,"method":"m","seed":7}
    score[m,k=2] {"k":2,"method":"m","seed":7}
    score[n,k=1] {"k":1,"method":"n","seed":7}
    score[n,k=2] {"k":2,"method":"n","seed":7}
    one[k=1] {"seed":7}
      one <- score[m,k=1]
    one[k=2] {"seed":7}
      one <- score[m,k=2]
    exact {"seed":7}
      one <- score[n,k=2]
    some {"seed":7}
      many <- score[m,k=1] [k=1,method=m,node=score]
      many <- score[n,k=1] [k=1,method=n,node=score]
    "#);
}

#[test]
fn nodes_may_stand_in_any_order() {
    insta::assert_snapshot!(expanded(
        "  last: { stage: s, in: { one: middle } }\n  first: { stage: s }\n  middle: { stage: s, in: { one: first } }\n"
    ), @r#"
    first {"seed":7}
    middle {"seed":7}
      one <- first
    last {"seed":7}
      one <- middle
    "#);
}

#[test]
fn what_cannot_be_expanded_is_refused_with_its_line_and_a_remedy() {
    let cases = [
        (
            "unknown node",
            "  a: { stage: s }\n  b: { stage: s, in: { one: aa } }\n",
        ),
        (
            "unknown role",
            "  a: { stage: s }\n  b: { stage: s, in: { onne: a } }\n",
        ),
        ("itself", "  a: { stage: s, in: { one: a } }\n"),
        (
            "a cycle",
            "  z: { stage: s }\n  a: { stage: s, in: { one: c } }\n  b: { stage: s, in: { one: a } }\n  c: { stage: s, in: { one: b } }\n",
        ),
        (
            "two at a role that takes one",
            "  a: { stage: s }\n  c: { stage: s }\n  b: { stage: s, in: { one: [a, c] } }\n",
        ),
        (
            "unknown axis",
            "  a: { stage: s, for: { model: [x] } }\n  b: { stage: s, in: { one: 'a[modle=x]' } }\n",
        ),
        (
            "unknown value",
            "  a: { stage: s, for: { model: [markov] } }\n  b: { stage: s, in: { one: 'a[markoff]' } }\n",
        ),
        (
            "no axes",
            "  a: { stage: s }\n  b: { stage: s, in: { one: 'a[x]' } }\n",
        ),
        (
            "selected twice",
            "  a: { stage: s, for: { m: [x] } }\n  b: { stage: s, in: { one: 'a[x,m=x]' } }\n",
        ),
        (
            "a value that only one side has",
            "  a: { stage: s, for: { seed: [1, 2] } }\n  b: { stage: s, in: { one: a }, for: { seed: [2, 3] } }\n",
        ),
        (
            "too many",
            "  a: { stage: s, for: { k: [1,2,3,4,5,6,7,8,9,10], l: [1,2,3,4,5,6,7,8,9,10], m: [1,2,3,4,5,6,7,8,9,10], n: [1,2,3,4,5,6,7,8,9,10], o: [1, 2] } }\n",
        ),
    ];
    let mut report = String::new();
    for (what, nodes) in cases {
        let message = expanded(nodes);
        assert!(message.starts_with("error: "), "{what}: {message}");
        assert!(message.contains("`shop.yaml` line "), "{what}: {message}");
        writeln!(report, "# {what}\n{message}\n").unwrap();
    }
    insta::assert_snapshot!(report);
}
