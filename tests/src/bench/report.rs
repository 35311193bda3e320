//! From measurements to what a reader sees: tables in Markdown, and the numbers of the plot.
//!
//! In: the lines that `bench` printed. Out: text; every figure is the median over the runs.
//! Read next: `ceiling`, `plot`.

use super::ceiling::{medians, Limits, Primitives};
use super::measure::BUSY_PERCENT;
use super::pair::median;
use super::plot::{Chart, Line};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::Path;

/// The marks in a document between which the report stands.
const BEGIN: &str = "<!-- what bench report wrote -->";
const END: &str = "<!-- end of what bench report wrote -->";

/// Who is measured: the name in the results, and for readers.
const NODES: [(&str, &str); 3] =
    [("chand", "chand"), ("engine", "LDK's engine at its best"), ("shipped", "ldk-node as shipped")];

/// The same in a line of four.
const LINES_OF_FOUR: [(&str, &str); 2] =
    [("chand-line", "chand"), ("engine-line", "LDK's engine, its route given")];

/// The measurements of a file.
#[derive(Clone, Debug)]
pub struct Results(Vec<Value>);

impl Results {
    /// Reads the lines that `bench` printed.
    ///
    /// # Errors
    /// Which line is no JSON, or that nothing was measured.
    pub fn read(text: &str) -> Result<Results, String> {
        let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
        let read = |(n, line)| serde_json::from_str(line).map_err(|e| format!("line {}: {e}", n + 1));
        let results = Results(lines.map(read).collect::<Result<_, _>>()?);
        let measured = ["payments", "primitives", "syncs"];
        match measured.iter().any(|kind| results.of(kind).next().is_some()) {
            true => Ok(results),
            false => Err("no measurement is in it".into()),
        }
    }

    fn of<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Value> {
        self.0.iter().filter(move |v| v["kind"] == kind)
    }

    fn payments<'a>(&'a self, nodes: &'a str, in_flight: usize) -> impl Iterator<Item = &'a Value> {
        self.of("payments").filter(move |v| v["nodes"] == nodes && v["in_flight"] == in_flight)
    }

    /// The median of a figure, when it was measured.
    fn figure(&self, nodes: &str, in_flight: usize, value: impl Fn(&Value) -> Option<f64>) -> Option<f64> {
        let all: Vec<f64> = self.payments(nodes, in_flight).filter_map(value).collect();
        (!all.is_empty()).then(|| median(&all))
    }

    fn concurrencies(&self) -> Vec<usize> {
        let all = self.of("payments").filter_map(|v| v["in_flight"].as_u64());
        let sorted: BTreeSet<u64> = all.collect();
        sorted.into_iter().filter_map(|n| usize::try_from(n).ok()).collect()
    }

    /// Those of [`NODES`] that were measured.
    fn measured(&self) -> Vec<(&'static str, &'static str)> {
        NODES.into_iter().filter(|(key, _)| self.of("payments").any(|v| v["nodes"] == *key)).collect()
    }

    fn primitives(&self) -> Option<Primitives> {
        let all: Vec<&Value> = self.of("primitives").collect();
        (!all.is_empty()).then(|| Primitives::read(medians(&all)))
    }

    fn limits(&self, in_flight: usize) -> Option<Limits> {
        Some(self.primitives()?.limits(in_flight))
    }

    /// The whole report, in Markdown.
    pub fn markdown(&self) -> String {
        let mut out = String::new();
        self.machine(&mut out);
        self.rates(&mut out);
        self.latencies(&mut out);
        self.costs(&mut out);
        self.lives(&mut out);
        self.hops(&mut out);
        self.primitives_table(&mut out);
        out
    }

    fn machine(&self, out: &mut String) {
        for machine in self.of("machine").take(1) {
            let text = |name: &str| machine[name].as_str().unwrap_or("?").to_string();
            let _ = writeln!(
                out,
                "Measured {} with chand {} ({}) on {} cores ({}), {} GB, Linux {}, {}.",
                text("date"),
                text("chand"),
                text("commit"),
                machine["cores"],
                text("cpu"),
                machine["memory_gb"],
                text("kernel"),
                text("disk"),
            );
        }
        let runs = self.of("payments").filter_map(|v| v["run"].as_u64()).max().unwrap_or(0);
        let others: Vec<f64> = self.of("payments").filter_map(|v| v["others_cpu_percent"].as_f64()).collect();
        let worst = others.iter().copied().fold(0.0, f64::max);
        let busy = others.iter().filter(|p| **p > BUSY_PERCENT).count();
        let load: Vec<f64> = self.of("payments").filter_map(|v| v["load"][0].as_f64()).collect();
        let _ = writeln!(
            out,
            "Medians of {runs}. Load average {:.1} to {:.1}, the measured processes included; other work used {:.0} % of the \
             machine in the middle and {worst:.0} % at worst{}.\n",
            load.iter().copied().fold(f64::INFINITY, f64::min),
            load.iter().copied().fold(0.0, f64::max),
            median(&others),
            if busy == 0 { String::new() } else { format!("; {busy} of {} measurements were disturbed (above {BUSY_PERCENT} %)", others.len()) },
        );
    }

    /// A table with a line for each number in flight and a column for each of `columns`; `head` stands above.
    fn table(
        &self,
        out: &mut String,
        head: &str,
        columns: &[&str],
        cell: impl Fn(usize, usize) -> Option<String>,
    ) {
        let _ = writeln!(out, "**{head}**\n\n| in flight | {} |", columns.join(" | "));
        let _ = writeln!(out, "|---|{}", "---|".repeat(columns.len()));
        for in_flight in self.concurrencies() {
            let cells: Vec<String> =
                (0..columns.len()).map(|c| cell(in_flight, c).unwrap_or_else(|| "–".into())).collect();
            let _ = writeln!(out, "| {in_flight} | {} |", cells.join(" | "));
        }
        out.push('\n');
    }

    fn rates(&self, out: &mut String) {
        let measured = self.measured();
        let mut columns: Vec<&str> = measured.iter().map(|(_, name)| *name).collect();
        columns.extend(["limit, commits through sled", "limit, one `fdatasync` a step", "limit, pipelined"]);
        self.table(out, "Payments per second", &columns, |in_flight, column| {
            match measured.get(column) {
                Some((key, _)) => self.figure(key, in_flight, |v| v["per_s"].as_f64()),
                None => self.limits(in_flight).map(|l| match column - measured.len() {
                    0 => l.per_s_store,
                    1 => l.per_s,
                    _ => l.per_s_pipelined,
                }),
            }
            .map(|rate| format!("{rate:.0}"))
        });
    }

    fn latencies(&self, out: &mut String) {
        let measured = self.measured();
        let mut columns: Vec<&str> = measured.iter().map(|(_, name)| *name).collect();
        columns.extend(["limit, commits through sled", "limit, one `fdatasync` a step"]);
        self.table(out, "From request to reply, ms: p50 / p99", &columns, |in_flight, column| match measured
            .get(column)
        {
            Some((key, _)) => {
                let p50 = self.figure(key, in_flight, |v| v["p50_ms"].as_f64())?;
                let p99 = self.figure(key, in_flight, |v| v["p99_ms"].as_f64())?;
                Some(format!("{} / {}", short(p50), short(p99)))
            }
            None => self.limits(in_flight).map(|l| match column - measured.len() {
                0 => short(l.latency_store_ms),
                _ => short(l.latency_ms),
            }),
        });
    }

    fn costs(&self, out: &mut String) {
        let measured = self.measured();
        let mut columns: Vec<&str> = measured.iter().map(|(_, name)| *name).collect();
        columns.push("bare cryptography");
        self.table(out, "CPU ms for a payment (payer + payee)", &columns, |in_flight, column| {
            let Some((key, _)) = measured.get(column) else {
                return self.limits(in_flight).map(|l| format!("{:.2}", l.cpu_ms));
            };
            let payer = self.figure(key, in_flight, |v| v["cpu_payer_ms"].as_f64())?;
            let payee = self.figure(key, in_flight, |v| v["cpu_payee_ms"].as_f64())?;
            Some(format!("{:.2} ({payer:.2} + {payee:.2})", payer + payee))
        });
        columns.pop();
        self.table(out, "Written to disk for a payment, KB, both nodes", &columns, |in_flight, column| {
            let sum = |v: &Value| Some(v["disk_payer_kb"].as_f64()? + v["disk_payee_kb"].as_f64()?);
            self.figure(measured.get(column)?.0, in_flight, sum).map(short)
        });
        if self.of("syncs").any(|v| v["measured"] == true) {
            self.table(out, "Syncs for a payment (payer + payee)", &columns, |in_flight, column| {
                let (key, _) = measured.get(column)?;
                let found = self.of("syncs").find(|v| v["nodes"] == *key && v["in_flight"] == in_flight)?;
                Some(format!("{} + {}", calls(&found["payer"]), calls(&found["payee"])))
            });
        } else {
            out.push_str("Syncs: not measured (no strace, or it may not trace).\n\n");
        }
    }

    fn lives(&self, out: &mut String) {
        let _ = writeln!(
            out,
            "**After all those payments (payer / payee)**\n\n| | payments | start, ms | peak memory, MB |\n|---|---|---|---|"
        );
        for (key, name) in self.measured() {
            let lives: Vec<&Value> = self.of("life").filter(|v| v["nodes"] == key).collect();
            let middle = |field: &str, i: usize| {
                median(&lives.iter().filter_map(|v| v[field][i].as_f64()).collect::<Vec<_>>())
            };
            let both = |field| format!("{} / {}", short(middle(field, 0)), short(middle(field, 1)));
            let payments = lives.first().map_or(0, |v| v["payments"].as_u64().unwrap_or(0));
            let _ = writeln!(out, "| {name} | {payments} | {} | {} |", both("start_ms"), both("peak_rss_mb"));
        }
        out.push('\n');
    }

    /// Four processes in a line.
    fn hops(&self, out: &mut String) {
        let measured =
            LINES_OF_FOUR.into_iter().filter(|(key, _)| self.of("payments").any(|v| v["nodes"] == *key));
        let measured: Vec<_> = measured.collect();
        if measured.is_empty() {
            return;
        }
        let names: Vec<&str> = measured.iter().map(|(_, name)| *name).collect();
        let cell = |text: &dyn Fn(&str, usize) -> Option<String>, in_flight, column: usize| {
            measured.get(column).and_then(|(key, _)| text(key, in_flight))
        };
        let rate =
            |key: &str, n| self.figure(key, n, |v| v["per_s"].as_f64()).map(|rate| format!("{rate:.0}"));
        self.table(out, "Over three hops, four processes: payments per second", &names, |n, c| {
            cell(&rate, n, c)
        });
        let time = |key: &str, n| {
            let p50 = self.figure(key, n, |v| v["p50_ms"].as_f64())?;
            let p99 = self.figure(key, n, |v| v["p99_ms"].as_f64())?;
            Some(format!("{} / {}", short(p50), short(p99)))
        };
        self.table(out, "Over three hops: from request to reply, ms: p50 / p99", &names, |n, c| {
            cell(&time, n, c)
        });
        let cpu = |key: &str, n| {
            let of = |field: &'static str| self.figure(key, n, move |v| v[field].as_f64());
            let (ends, way) = (of("cpu_payer_ms")? + of("cpu_payee_ms")?, of("cpu_between_ms")?);
            Some(format!("{:.2} ({:.2} + {:.2})", ends + way, ends, way))
        };
        self.table(
            out,
            "Over three hops: CPU ms for a payment (both ends + the two between)",
            &names,
            |n, c| cell(&cpu, n, c),
        );
    }

    fn primitives_table(&self, out: &mut String) {
        let all: Vec<&Value> = self.of("primitives").collect();
        let Some(first) = all.first().and_then(|v| v.as_object()) else { return };
        let of = medians(&all);
        let _ = writeln!(out, "**The primitives of the limits**\n\n| | µs |\n|---|---|");
        for name in first.keys().filter(|name| *name != "kind") {
            let _ = writeln!(out, "| {} | {} |", name.replace('_', " "), short(of(name)));
        }
    }

    /// Rates and latencies as drawn.
    pub fn charts(&self) -> [Chart; 2] {
        let all = self.concurrencies();
        let points = |value: &dyn Fn(usize) -> Option<f64>| -> Vec<(f64, f64)> {
            all.iter().filter_map(|n| Some((*n as f64, value(*n)?))).collect()
        };
        let (mut rates, mut times) = (Vec::new(), Vec::new());
        for (key, name) in self.measured() {
            rates.push(Line::solid(name, points(&|n| self.figure(key, n, |v| v["per_s"].as_f64()))));
            times.push(Line::solid(name, points(&|n| self.figure(key, n, |v| v["p50_ms"].as_f64()))));
            times.push(Line::faint(name, points(&|n| self.figure(key, n, |v| v["p99_ms"].as_f64()))));
        }
        rates.push(Line::dashed(
            "computed limit, one batch at a time",
            points(&|n| Some(self.limits(n)?.per_s)),
        ));
        rates.push(Line::dashed(
            "computed limit, pipelined",
            points(&|n| Some(self.limits(n)?.per_s_pipelined)),
        ));
        times.push(Line::dashed(
            "computed limit, one batch at a time",
            points(&|n| Some(self.limits(n)?.latency_ms)),
        ));
        let x = "payments in flight";
        [
            Chart { title: "Payments per second".into(), x: x.into(), y: "payments/s".into(), lines: rates },
            Chart {
                title: "From request to reply: p50, and p99 thin".into(),
                x: x.into(),
                y: "milliseconds".into(),
                lines: times,
            },
        ]
    }
}

/// Three figures that count.
fn short(value: f64) -> String {
    match value.abs() {
        v if v >= 99.95 => format!("{value:.0}"),
        v if v >= 9.995 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// `fdatasync` and `fsync` together; the other calls wait, too, but promise nothing.
fn calls(counts: &Value) -> String {
    let sum: f64 = ["fdatasync", "fsync"].iter().filter_map(|call| counts[*call].as_f64()).sum();
    short(sum)
}

/// Puts `text` between the marks of a document.
///
/// # Errors
/// When the file cannot be read or written, or has no marks.
pub fn put_into(file: &Path, text: &str) -> Result<(), String> {
    let problem = |e: std::io::Error| format!("{}: {e}", file.display());
    let old = std::fs::read_to_string(file).map_err(problem)?;
    let parts = old.split_once(BEGIN).and_then(|(head, rest)| Some((head, rest.split_once(END)?.1)));
    let (head, tail) = parts.ok_or_else(|| format!("{} has no line {BEGIN}", file.display()))?;
    std::fs::write(file, format!("{head}{BEGIN}\n\n{}\n\n{END}{tail}", text.trim())).map_err(problem)
}

#[cfg(test)]
mod tests {
    use super::{put_into, Results, BEGIN, END};

    const LINES: &str = r#"
{"kind":"machine","cores":2,"cpu":"a cpu","memory_gb":4.0,"kernel":"6","chand":"0.1.0"}
{"kind":"payments","nodes":"chand","run":1,"in_flight":10,"per_s":100.0,"p50_ms":9.0,"p99_ms":20.0,"cpu_payer_ms":1.0,"cpu_payee_ms":0.5,"disk_payer_kb":10.0,"disk_payee_kb":5.0,"others_cpu_percent":1.0,"load":[0.5]}
{"kind":"payments","nodes":"chand","run":2,"in_flight":10,"per_s":300.0,"p50_ms":7.0,"p99_ms":10.0,"cpu_payer_ms":1.0,"cpu_payee_ms":0.5,"disk_payer_kb":10.0,"disk_payee_kb":5.0,"others_cpu_percent":30.0,"load":[2.0]}
{"kind":"payments","nodes":"chand-line","run":1,"in_flight":10,"per_s":55.0,"p50_ms":70.0,"p99_ms":80.0,"cpu_payer_ms":1.0,"cpu_payee_ms":0.5,"cpu_between_ms":2.0,"others_cpu_percent":1.0,"load":[0.5]}
{"kind":"syncs","measured":true,"nodes":"chand","in_flight":10,"payer":{"fdatasync":0.5},"payee":{"fdatasync":0.25}}
"#;

    #[test]
    fn medians_stand_in_the_tables() {
        let text = Results::read(LINES).expect("JSON").markdown();
        assert!(text.contains("| 10 | 200 | – |"), "{text}");
        assert!(text.contains("| 10 | 8.00 / 15.0 |"), "{text}");
        assert!(text.contains("1.50 (1.00 + 0.50)") && text.contains("| 10 | 0.50 + 0.25 |"), "{text}");
        assert!(text.contains("| 10 | 55 |") && text.contains("3.50 (1.50 + 2.00)"), "{text}");
        assert!(text.contains("1 of 3 measurements were disturbed"), "{text}");
        assert!(
            Results::read("no").is_err() && Results::read("").is_err() && Results::read("\n5\n").is_err()
        );
    }

    #[test]
    fn only_what_is_between_the_marks_changes() {
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join("doc.md");
        std::fs::write(&file, format!("above\n{BEGIN}\nold\n{END}\nbelow\n")).expect("a file");
        put_into(&file, "new\n").expect("marks");
        let text = std::fs::read_to_string(&file).expect("a file");
        assert_eq!(text, format!("above\n{BEGIN}\n\nnew\n\n{END}\nbelow\n"));
        std::fs::write(&file, "no marks").expect("a file");
        assert!(put_into(&file, "new").is_err());
    }
}
