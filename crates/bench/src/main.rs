//! `cargo run --release -p bench [filter]`: throughput of the kernels on this machine.
//!
//! Prints GOP/s (a multiply and an add count as two) and GB/s of weights read, per kernel, instruction set
//! and number of threads: the median of at least seven samples, and the best one, which a busy machine
//! disturbs least.

#[cfg(target_arch = "x86_64")]
mod limits;

use std::hint::black_box;
use std::time::{Duration, Instant};

use half::{bf16, f16};
use kernels::{
    Attention, AttentionShape, AttentionSpan, Bf16Unit, Bf16Weights, CodeBits, GroupScales,
    GroupZero, Isa, KeySegment, KeySource, KeyValues, Partials, PlainRows, QuantPanels, QuantRows,
    Rows, Terms, ThreadPool,
};

/// Products `[m, k] · [n, k]ᵀ`: `MiniLM`'s linear layers at 32 sentences, a step of training and one token of `SmolLM2`'s.
const SHAPES: [(usize, usize, usize); 8] = [
    (1376, 384, 384),
    (1376, 384, 1536),
    (1376, 1536, 384),
    (256, 576, 1536),
    (256, 1536, 576),
    (8, 576, 1536),
    (1, 576, 1536),
    (1, 576, 49152),
];

fn main() {
    let filter = std::env::args().nth(1).unwrap_or_default();
    println!("{}", cpu_name());
    println!(
        "{:44} {:>7} {:>7} {:>10} {:>8} {:>8} {:>11}",
        "kernel", "isa", "threads", "us", "GOP/s", "GB/s", "best GOP/s"
    );
    for isa in Isa::available()
        .into_iter()
        .filter(|&isa| isa > Isa::Scalar)
    {
        for threads in [1, 2] {
            let report = Report {
                isa,
                pool: ThreadPool::new(threads),
                filter: &filter,
            };
            isa.scope(|| {
                #[cfg(target_arch = "x86_64")]
                limits(&report);
                products(&report);
                rows(&report);
            });
        }
    }
}

fn cpu_name() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = info
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    name.map_or_else(|| "unknown CPU".into(), |(_, name)| name.to_owned())
}

struct Report<'a> {
    isa: Isa,
    pool: ThreadPool,
    filter: &'a str,
}

impl Report<'_> {
    fn line(&self, name: &str, operations: usize, bytes: usize, mut call: impl FnMut()) {
        if !name.contains(self.filter) {
            return;
        }
        let samples = samples(&mut call);
        let (median, best) = (
            samples[samples.len() / 2].as_secs_f64(),
            samples[0].as_secs_f64(),
        );
        println!(
            "{name:44} {:>7} {:>7} {:>10.1} {:>8.1} {:>8.2} {:>11.1}",
            self.isa.to_string(),
            self.pool.threads(),
            median * 1e6,
            operations as f64 / median / 1e9,
            bytes as f64 / median / 1e9,
            operations as f64 / best / 1e9,
        );
    }

    /// Whether any line of such names is wanted: inputs take longer to make than to measure.
    fn wants(&self, part: &str) -> bool {
        part.contains(self.filter.split(' ').next_back().unwrap_or_default())
            || !self.filter.contains('x')
    }
}

/// At least seven, in ascending order, over a quarter of a second; a sample repeats the call for half a millisecond.
fn samples(call: &mut impl FnMut()) -> Vec<Duration> {
    let start = Instant::now();
    let mut repeats = 0_u32;
    while repeats == 0 || start.elapsed() < Duration::from_micros(500) {
        call();
        repeats += 1;
    }
    let mut samples = Vec::new();
    let start = Instant::now();
    while samples.len() < 7 || start.elapsed() < Duration::from_millis(250) {
        let start = Instant::now();
        (0..repeats).for_each(|_| call());
        samples.push(start.elapsed() / repeats);
    }
    samples.sort_unstable();
    samples
}

fn noise(len: usize) -> Vec<f32> {
    let mut state = 1_u64;
    (0..len)
        .map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as f32 / (1_u64 << 30) as f32 - 1.0
        })
        .collect()
}

#[cfg(target_arch = "x86_64")]
fn limits(report: &Report<'_>) {
    let threads = report.pool.threads();
    for (name, dot) in [
        ("limit: f32 multiply-add", false),
        ("limit: int8 dot product", true),
    ] {
        if dot && report.isa != Isa::Avx512 {
            continue;
        }
        report.line(
            name,
            limits::operations(report.isa, dot, threads),
            0,
            || {
                limits::multiply(&report.pool, report.isa, dot);
            },
        );
    }
    if "limit: read 128 MB".contains(report.filter) {
        let data = vec![1_u64; 16 << 20];
        report.line("limit: read 128 MB", 0, data.len() * 8, || {
            limits::read(&report.pool, &data);
        });
    }
}

fn products(report: &Report<'_>) {
    for (m, k, n) in SHAPES {
        if !report.wants(&format!("{m}x{k}x{n}")) {
            continue;
        }
        let (x, w) = (noise(m * k), noise(n * k));
        let mut out = vec![0.0; m * n];
        let f16s: Vec<u16> = w.iter().map(|&w| f16::from_f32(w).to_bits()).collect();
        let bf16s: Vec<u16> = w.iter().map(|&w| bf16::from_f32(w).to_bits()).collect();
        let kinds = [
            ("f32", PlainRows::F32(&w)),
            ("f16", PlainRows::F16(&f16s)),
            ("bf16", PlainRows::Bf16(&bf16s)),
        ];
        for (name, weights) in kinds {
            let bytes = n * k * if name == "f32" { 4 } else { 2 };
            report.line(
                &format!("gemm_plain {name} {m}x{k}x{n}"),
                2 * m * n * k,
                bytes,
                || {
                    kernels::gemm_plain(
                        &report.pool,
                        &x,
                        m,
                        k,
                        weights,
                        n,
                        kernels::Onto::Nothing,
                        black_box(&mut out),
                    );
                },
            );
        }
        for (name, w) in [
            ("rows", Bf16Weights::Outputs(&w)),
            ("back", Bf16Weights::Inputs(&w)),
        ] {
            let name = format!("gemm_bf16 {name} {} {m}x{k}x{n}", Bf16Unit::in_use());
            report.line(&name, 2 * m * n * k, 4 * n * k, || {
                let onto = kernels::Onto::Nothing;
                kernels::gemm_bf16(&report.pool, &x, m, k, w, n, onto, black_box(&mut out));
            });
        }
        for bits in [CodeBits::Int8, CodeBits::Int4, CodeBits::Int2] {
            for group_size in [0, 32] {
                quantised(report, (m, k, n), &x, bits, group_size, &mut out);
            }
        }
    }
}

fn quantised(
    report: &Report<'_>,
    (m, k, n): (usize, usize, usize),
    x: &[f32],
    bits: CodeBits,
    group_size: usize,
    out: &mut [f32],
) {
    let groups = k.checked_div(group_size).unwrap_or(1);
    let codes: Vec<u8> = noise(n * k * bits.width() / 8)
        .iter()
        .map(|x| (x * 128.0) as i8 as u8)
        .collect();
    let scales = vec![f16::from_f32(0.01).to_bits(); n * groups];
    let w = QuantPanels {
        n,
        k,
        bits,
        group_size,
        codes: &codes,
        scales: GroupScales::F16(&scales),
        zero: GroupZero::Middle,
    };
    let mut rows = QuantRows::new();
    rows.quantize(x, m, k, group_size, Terms::One);
    let bytes = codes.len() + 2 * scales.len();
    let name = format!("gemm_quant {bits:?}/{group_size} {m}x{k}x{n}").to_lowercase();
    report.line(&name, 2 * m * n * k, bytes, || {
        kernels::gemm_quant(&report.pool, &rows, &w, None, black_box(out));
    });
}

/// What surrounds the products; operations are values handled.
fn rows(report: &Report<'_>) {
    let (m, k) = (1376, 1536);
    let x = noise(m * k);
    let mut y = x.clone();
    let mut quantised = QuantRows::new();
    for group_size in [0, 32] {
        report.line(
            &format!("quantize_with/{group_size} {m}x{k}"),
            m * k,
            4 * m * k,
            || {
                let fill =
                    |row: usize, values: &mut [f32]| values.copy_from_slice(&x[row * k..][..k]);
                quantised.quantize_with(&report.pool, (m, k), group_size, Terms::One, fill);
            },
        );
    }
    let mut each = |name: &str, call: &dyn Fn(&[f32], &mut [f32])| {
        report.line(&format!("{name} {m}x{k}"), m * k, 8 * m * k, || {
            x.chunks(k)
                .zip(y.chunks_mut(k))
                .for_each(|(x, y)| call(x, black_box(y)));
        });
    };
    let gamma = noise(k);
    each("gelu", &|_, y| kernels::gelu(y));
    each("gelu_tanh", &|_, y| kernels::gelu_tanh(y));
    each("silu_mul", &|x, y| kernels::silu_mul(x, x, y));
    each("softmax", &|_, y| kernels::softmax(y));
    each("layer_norm", &|x, y| {
        kernels::layer_norm(x, &gamma, &gamma, 1e-5, y);
    });
    each("rms_norm", &|x, y| kernels::rms_norm(x, &gamma, 1e-5, y));
    attention(
        report,
        "32 x 43, 12 heads of 32",
        (32, 43, 43),
        (12, 12, 32),
        None,
    );
    attention(
        report,
        "256 causal, 9/3 heads of 64",
        (1, 256, 256),
        (9, 3, 64),
        Some(0),
    );
    attention(
        report,
        "1 of 256, 9/3 heads of 64",
        (1, 1, 256),
        (9, 3, 64),
        Some(255),
    );
}

/// Rows that are keys and values at once.
struct Shared<'a>(Rows<'a>);

impl KeySource for Shared<'_> {
    fn get(&self, _source: usize, _page: usize) -> KeyValues<'_> {
        KeyValues::Rows {
            keys: self.0,
            values: self.0,
        }
    }
}

fn attention(
    report: &Report<'_>,
    name: &str,
    (batch, queries, keys): (usize, usize, usize),
    (heads, kv_heads, head_dim): (usize, usize, usize),
    causal: Option<usize>,
) {
    let q = noise(batch * queries * heads * head_dim);
    let kv = noise(batch * keys * kv_heads * head_dim);
    let mut out = vec![0.0; q.len()];
    let spans: Vec<_> = (0..batch)
        .map(|i| AttentionSpan {
            query_start: i * queries,
            queries,
            first_segment: i,
            segments: 1,
        })
        .collect();
    let segments: Vec<_> = (0..batch)
        .map(|i| KeySegment {
            source: 0,
            start: i * keys,
            keys,
            causal,
            window: None,
        })
        .collect();
    let what = Attention {
        shape: AttentionShape {
            heads,
            kv_heads,
            head_dim,
            scale: 0.125,
        },
        spans: &spans,
        segments: &segments,
    };
    let q = Rows::new(&q, heads * head_dim);
    let source = Shared(Rows::new(&kv, kv_heads * head_dim));
    let mut partials = Partials::default();
    let operations = 4 * batch * queries * keys * heads * head_dim;
    report.line(
        &format!("attention {name}"),
        operations,
        8 * batch * keys * kv_heads * head_dim,
        || {
            let out = black_box(&mut out);
            kernels::attention(&report.pool, what, q, &source, &mut partials, out);
        },
    );
}
