"""The same two pipelines for Touchstone, DVC and Snakemake.

chain: ten stages, each reading and writing 10 MB and given one parameter. fan: 200 stages that read
one small file. A stage is the same shell command everywhere; Touchstone's stands in a script that
speaks the stage protocol.
"""

import os
import random

LINKS, LEAVES, BYTES = 10, 200, 10_000_000

# Reads $in, writes $to. The parameter is there to be hashed, and does nothing.
CHAIN = "(head -c 16 {i} | md5sum; tail -c +17 {i}) | tail -c %d > {o}" % BYTES
FAN = "cp {i} {o} && echo {n} >> {o}"

STAGE = """#!/bin/sh
set -eu
command=$1
shift
case $command in
describe)
    cat <<'END'
{{ "protocol": 1, "name": "{name}", "doc": "a stage of a benchmark",
  "inputs": [{{ "role": "text", "kinds": ["text"], "is_optional": true }}],
  "outputs": [{{ "role": "text", "kind": "text" }}],
  "config": [{{ "name": "file", "kind": "file" }}, {{ "name": "number", "kind": "integer" }}] }}
END
    ;;
check)
    while [ "$1" != --config ]; do shift; done
    read -r config < "$2" || [ "$config" ]
    echo "{{ \\"config\\": $config, \\"offers\\": {{ \\"text\\": [{{ \\"kind\\": \\"text\\" }}] }} }}"
    ;;
run)
    from=
    while [ $# -gt 0 ]; do
        case $1 in
        --in) from=${{2#*=}}/text ;;
        --out) to=$2/text ;;
        --data) data=$2 ;;
        --config) read -r config < "$2" || [ "$config" ] ;;
        esac
        shift 2
    done
    [ "$from" ] || from=$data/in
    n=${{config##*:}}
    n=${{n%\\}}}}
    mkdir "$to"
    {command}
    ;;
esac
"""


def write(path, text, mode=0o644):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as file:
        file.write(text)
    os.chmod(path, mode)


def raw(folder, case):
    """What the first stage reads."""
    path = os.path.join(folder, "in")
    os.makedirs(folder, exist_ok=True)
    with open(path, "wb") as file:
        file.write(random.Random(1).randbytes(BYTES) if case == "chain" else b"one line\n")


def touchstone(folder, case):
    command = (CHAIN if case == "chain" else FAN).format(i='"$from"', o='"$to/text"', n="$n")
    if case == "chain":
        # The output of one is the input of the next, as a file called `text`.
        command = '[ -f "$from" ] && i=$from || i=$from/text\n    ' + CHAIN.format(
            i='"$i"', o='"$to/text"'
        )
    write(os.path.join(folder, "stage"), STAGE.format(name=case, command=command), 0o755)
    lines = [f"pipeline: {case}", "nodes:"]
    if case == "chain":
        lines.append("  n0: { stage: ./stage, with: { file: in, number: 0 } }")
        for n in range(1, LINKS):
            lines.append(f"  n{n}: {{ stage: ./stage, in: {{ text: n{n - 1} }}, with: {{ number: {n} }} }}")
    else:
        numbers = ", ".join(map(str, range(LEAVES)))
        lines.append(f"  leaf: {{ stage: ./stage, with: {{ file: in }}, for: {{ number: [{numbers}] }} }}")
    write(os.path.join(folder, "pipeline.yaml"), "\n".join(lines) + "\n")
    raw(os.path.join(folder, "data"), case)


def dvc(folder, case):
    lines = ["stages:"]
    if case == "chain":
        for n in range(LINKS):
            before = "in" if n == 0 else f"o{n - 1}"
            lines += [
                f"  n{n}:",
                f"    cmd: {CHAIN.format(i=before, o=f'o{n}')}",
                f"    deps: [{before}]",
                f"    params: [number{n}]",
                f"    outs: [o{n}]",
            ]
        parameters = "".join(f"number{n}: {n}\n" for n in range(LINKS))
    else:
        numbers = ", ".join(map(str, range(LEAVES)))
        lines += [
            "  leaf:",
            f"    matrix: {{ number: [{numbers}] }}",
            "    cmd: " + FAN.format(i="in", o="o${item.number}", n="${item.number}"),
            "    deps: [in]",
            "    outs: ['o${item.number}']",
        ]
        parameters = "none: 0\n"
    write(os.path.join(folder, "dvc.yaml"), "\n".join(lines) + "\n")
    write(os.path.join(folder, "params.yaml"), parameters)
    raw(folder, case)


def snakemake(folder, case):
    if case == "chain":
        text = f'rule all:\n    input: "o{LINKS - 1}"\n'
        for n in range(LINKS):
            before = "in" if n == 0 else f"o{n - 1}"
            shell = CHAIN.format(i="{input}", o="{output}")
            text += (
                f'rule n{n}:\n    input: "{before}"\n    output: "o{n}"\n'
                f"    params: number={n}\n    shell: '''{shell}'''\n"
            )
    else:
        shell = FAN.format(i="{input}", o="{output}", n="{wildcards.n}")
        text = (
            f'rule all:\n    input: expand("o{{n}}", n=range({LEAVES}))\n'
            f'rule leaf:\n    input: "in"\n    output: "o{{n}}"\n    shell: \'\'\'{shell}\'\'\'\n'
        )
    write(os.path.join(folder, "Snakefile"), text)
    raw(folder, case)
