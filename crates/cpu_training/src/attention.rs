//! Attention within the documents of a batch, and its gradients.

use std::ops::Range;

use kernels::{SharedOut, ThreadPool};

use crate::batch::Checked;

/// The heads of a network.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Heads {
    pub(crate) queries: usize,
    pub(crate) keys: usize,
    pub(crate) width: usize,
}

/// Queries, keys and values, each `[rows, heads · width]`.
#[derive(Clone, Copy)]
pub(crate) struct Projected<'a> {
    pub(crate) q: &'a [f32],
    pub(crate) k: &'a [f32],
    pub(crate) v: &'a [f32],
}

/// Where the gradients of [`Projected`] go, which hold zeros.
pub(crate) struct Gradients<'a> {
    pub(crate) q: &'a mut [f32],
    pub(crate) k: &'a mut [f32],
    pub(crate) v: &'a mut [f32],
}

impl Heads {
    pub(crate) const fn query_width(self) -> usize {
        self.queries * self.width
    }

    pub(crate) const fn key_width(self) -> usize {
        self.keys * self.width
    }

    fn scale(self) -> f32 {
        1.0 / (self.width as f32).sqrt()
    }

    /// The query heads that share key head `head`.
    fn group(self, head: usize) -> Range<usize> {
        let size = self.queries / self.keys;
        head * size..(head + 1) * size
    }

    /// Writes what each query sees, `[rows, queries · width]`.
    pub(crate) fn forward(
        self,
        pool: &ThreadPool,
        batch: &Checked<'_>,
        x: Projected<'_>,
        out: &mut [f32],
    ) {
        let shared = SharedOut::new(out);
        self.for_each_head(pool, batch, |document, key_head| {
            let mut shares = Vec::with_capacity(document.len());
            for head in self.group(key_head) {
                for query in document.clone() {
                    self.shares(batch, x, (query, head, key_head), &mut shares);
                    let at = query * self.query_width() + head * self.width;
                    // SAFETY: heads and documents of different tasks differ.
                    let out = unsafe { shared.part(at, self.width) };
                    out.fill(0.0);
                    for (key, &share) in batch.seen(query).zip(&shares) {
                        kernels::axpy(share, self.row(x.v, key, key_head), out);
                    }
                }
            }
        });
    }

    /// Writes the gradients of queries, keys and values for those of what was seen.
    pub(crate) fn backward(
        self,
        pool: &ThreadPool,
        batch: &Checked<'_>,
        x: Projected<'_>,
        dout: &[f32],
        Gradients { q, k, v }: Gradients<'_>,
    ) {
        let (dq, dk, dv) = (SharedOut::new(q), SharedOut::new(k), SharedOut::new(v));
        let (width, scale) = (self.width, self.scale());
        self.for_each_head(pool, batch, |document, key_head| {
            let mut shares = Vec::with_capacity(document.len());
            let mut changes = Vec::with_capacity(document.len());
            for head in self.group(key_head) {
                for query in document.clone() {
                    self.shares(batch, x, (query, head, key_head), &mut shares);
                    let at = query * self.query_width() + head * width;
                    let dout = &dout[at..at + width];
                    changes.clear();
                    let keys = batch.seen(query);
                    changes.extend(
                        keys.clone()
                            .map(|key| kernels::dot_f32(dout, self.row(x.v, key, key_head))),
                    );
                    let mean = kernels::dot_f32(&shares, &changes);
                    // SAFETY: as in `forward`; the keys' and values' head is this task's alone.
                    let dq = unsafe { dq.part(at, width) };
                    let q = &x.q[at..at + width];
                    for (key, (&share, &change)) in keys.zip(shares.iter().zip(&changes)) {
                        let place = key * self.key_width() + key_head * width;
                        // SAFETY: as above.
                        let (dk, dv) = unsafe { (dk.part(place, width), dv.part(place, width)) };
                        kernels::axpy(share, dout, dv);
                        let change = share * (change - mean) * scale;
                        kernels::axpy(change, self.row(x.k, key, key_head), dq);
                        kernels::axpy(change, q, dk);
                    }
                }
            }
        });
    }

    /// Calls `work(document, key_head)` for each pair.
    fn for_each_head(
        self,
        pool: &ThreadPool,
        batch: &Checked<'_>,
        work: impl Fn(&Range<usize>, usize) + Sync,
    ) {
        pool.run(batch.documents.len() * self.keys, |task| {
            work(&batch.documents[task / self.keys], task % self.keys);
        });
    }

    fn row(self, keys: &[f32], key: usize, head: usize) -> &[f32] {
        &keys[key * self.key_width() + head * self.width..][..self.width]
    }

    /// Fills `shares` with the softmax over the keys that a query sees.
    fn shares(
        self,
        batch: &Checked<'_>,
        x: Projected<'_>,
        (query, head, key_head): (usize, usize, usize),
        shares: &mut Vec<f32>,
    ) {
        let q = &x.q[query * self.query_width() + head * self.width..][..self.width];
        shares.clear();
        let keys = batch.seen(query).map(|key| self.row(x.k, key, key_head));
        shares.extend(keys.map(|key| kernels::dot_f32(q, key) * self.scale()));
        kernels::softmax(shares);
    }
}
