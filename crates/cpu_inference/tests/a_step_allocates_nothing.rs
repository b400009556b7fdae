//! Reading and choosing one more token allocates nothing once the session's buffers are as large as its text.
#![allow(clippy::unwrap_used)]

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;

use arrow_quant::{Dtype, Grid, Quantization, Tensor, TensorData, quantize};
use common::{config, decoders, ids, tensors};
use cpu_inference::{CachePrecision, Card, Model, Sampler, SamplingSettings, Session};
use kernels::{CodeBits, PlainRows};

/// The system's allocator, which counts what each thread asks of it.
struct Counting;

thread_local! {
    static COUNT: Cell<usize> = const { Cell::new(0) };
}

fn count() {
    COUNT.set(COUNT.get() + 1);
}

// SAFETY: every call goes to the system's allocator as it came; the counter neither allocates nor has a
// destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promises are the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, start: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { System.realloc(start, layout, size) }
    }

    unsafe fn dealloc(&self, start: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(start, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Allocations of this thread during `work`.
fn allocations(work: impl FnOnce()) -> usize {
    let before = COUNT.get();
    work();
    COUNT.get() - before
}

/// The same weights, matrices in integers of eight bits.
fn integers(tensors: Vec<Tensor>) -> Vec<Tensor> {
    let how = Quantization {
        bits: CodeBits::Int8,
        group_size: 0,
        grid: Grid::Symmetric,
    };
    let rounded = |tensor: Tensor| match (&tensor.shape[..], &tensor.data) {
        (&[n, k], TensorData::Plain { .. }) => {
            let weights = tensor.dequantize();
            let quant = quantize(PlainRows::F32(&weights), n, k, how, |_| true).unwrap();
            Tensor {
                data: TensorData::Quant(quant),
                ..tensor
            }
        }
        _ => tensor,
    };
    tensors.into_iter().map(rounded).collect()
}

/// A side block behind the first block.
fn side() -> [Tensor; 2] {
    [("down", [4, 32]), ("up", [32, 4])].map(|(part, shape)| Tensor {
        name: format!("model.layers.0.side_{part}.weight"),
        shape: shape.to_vec(),
        data: TensorData::Plain {
            dtype: Dtype::F32,
            data: [0.1_f32; 128]
                .iter()
                .flat_map(|n| n.to_ne_bytes())
                .collect(),
        },
    })
}

fn steps(
    model: Model,
    precision: CachePrecision,
    settings: SamplingSettings,
    has_card: bool,
) -> usize {
    let model = Arc::new(model);
    let mut session = Session::new(Arc::clone(&model), 200, precision).unwrap();
    if has_card {
        let card = Card {
            name: "side",
            tensors: &side(),
            scaling: 1.0,
            row_ids: &[],
            heads: &[],
            weight: 1.0,
        };
        session.adapt(model.adapter(&[card]).unwrap()).unwrap();
    }
    let mut sampler = Sampler::new(settings).unwrap();
    let mut step = |session: &mut Session, id: i32| {
        session.extend(&[id], &mut || true).unwrap();
        session.sample(&mut sampler).unwrap();
    };
    // Grows every buffer to what the steps counted below need.
    session.extend(&ids(150, 3), &mut || true).unwrap();
    step(&mut session, 1);
    session.truncate(100);
    step(&mut session, 2);
    allocations(|| (0..20).for_each(|id| step(&mut session, id)))
}

#[test]
fn for_every_decoder() {
    assert!(
        allocations(|| drop(vec![1_u8])) > 0,
        "the counter is in use"
    );
    let greedy = SamplingSettings::default();
    let drawn = SamplingSettings {
        temperature: 0.8,
        top_k: 10,
        top_p: 0.9,
        repetition_penalty: 1.1,
        ..greedy
    };
    for architecture in decoders() {
        let config = config(architecture);
        for precision in [CachePrecision::F32, CachePrecision::F16] {
            for settings in [greedy, drawn] {
                for threads in [1, 2] {
                    let plain = tensors(&config);
                    for tensors in [integers(plain.clone()), plain] {
                        for has_card in [false, true] {
                            let model = Model::load(config.clone(), &tensors, threads).unwrap();
                            let count = steps(model, precision, settings, has_card);
                            assert_eq!(
                                count, 0,
                                "{architecture}, {precision:?}, {settings:?}, {threads} threads, {has_card}"
                            );
                        }
                    }
                }
            }
        }
    }
}
