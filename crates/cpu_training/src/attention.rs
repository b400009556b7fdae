//! Attention within the documents of a batch, and its gradients.

use std::ops::Range;

use kernels::{SharedOut, ThreadPool};

use crate::batch::Checked;

/// Queries of a task.
const QUERIES: usize = 64;

/// What one thread computes: some queries of a document, in the heads that share one of keys.
struct Task {
    document: Range<usize>,
    queries: Range<usize>,
    key_head: usize,
}

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
        let (shared, tasks) = (SharedOut::new(out), self.tasks(batch));
        pool.run(tasks.len(), |task| {
            let Task {
                queries, key_head, ..
            } = &tasks[task];
            let mut shares = Vec::new();
            for head in self.group(*key_head) {
                for query in queries.clone() {
                    self.shares(batch, x, (query, head, *key_head), &mut shares);
                    // SAFETY: heads and queries of different tasks differ.
                    let out = unsafe { shared.part(self.place(query, head), self.width) };
                    out.fill(0.0);
                    for (keys, shares) in by_run(batch.seen(query), &shares) {
                        let (values, stride) = self.rows(x.v, &keys, *key_head);
                        kernels::strided_sum(shares, values, stride, out);
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
        let (width, tasks) = (self.width, self.tasks(batch));
        let dq = SharedOut::new(q);
        // Of keys and values, which parts of the queries share, each part has sums of its own.
        let sizes = tasks.iter().map(|task| 2 * task.document.len() * width);
        let mut sums: Vec<Vec<f32>> = sizes.map(|size| vec![0.0; size]).collect();
        let own = SharedOut::new(&mut sums);
        pool.run(tasks.len(), |number| {
            let task = &tasks[number];
            // SAFETY: each task has its own.
            let sums = &mut unsafe { own.part(number, 1) }[0];
            let (of_keys, of_values) = sums.split_at_mut(task.document.len() * width);
            let [mut shares, mut changes] = [Vec::new(), Vec::new()];
            for head in self.group(task.key_head) {
                for query in task.queries.clone() {
                    self.shares(batch, x, (query, head, task.key_head), &mut shares);
                    let at = self.place(query, head);
                    let (q, dout) = (&x.q[at..at + width], &dout[at..at + width]);
                    self.dots(batch, query, (dout, x.v, task.key_head), &mut changes);
                    let mean = kernels::dot_f32(&shares, &changes);
                    for (change, share) in changes.iter_mut().zip(&shares) {
                        *change = share * (*change - mean) * self.scale();
                    }
                    // SAFETY: heads and queries of different tasks differ.
                    let dq = unsafe { dq.part(at, width) };
                    let seen = batch.seen(query);
                    for ((keys, shares), (_, changes)) in
                        by_run(seen, &shares).zip(by_run(seen, &changes))
                    {
                        let first = (keys.start - task.document.start) * width;
                        let own = first..first + keys.len() * width;
                        kernels::add_outer(shares, dout, &mut of_values[own.clone()]);
                        kernels::add_outer(changes, q, &mut of_keys[own]);
                        let (keys, stride) = self.rows(x.k, &keys, task.key_head);
                        kernels::strided_sum(changes, keys, stride, dq);
                    }
                }
            }
        });
        for (task, sums) in tasks.iter().zip(&sums) {
            let (of_keys, of_values) = sums.split_at(task.document.len() * width);
            for (gradient, sums) in [(&mut *k, of_keys), (&mut *v, of_values)] {
                for (key, sum) in task.document.clone().zip(sums.chunks_exact(width)) {
                    let place = key * self.key_width() + task.key_head * width;
                    kernels::add(sum, &mut gradient[place..place + width]);
                }
            }
        }
    }

    /// The work on each head of keys, cut by queries: always the same parts, whatever the threads.
    fn tasks(self, batch: &Checked<'_>) -> Vec<Task> {
        let mut tasks = Vec::new();
        for document in &batch.documents {
            for start in document.clone().step_by(QUERIES) {
                tasks.extend((0..self.keys).map(|key_head| Task {
                    document: document.clone(),
                    queries: start..(start + QUERIES).min(document.end),
                    key_head,
                }));
            }
        }
        tasks
    }

    fn place(self, query: usize, head: usize) -> usize {
        query * self.query_width() + head * self.width
    }

    /// The rows of a run of keys and what they lie apart.
    fn rows<'a>(self, keys: &'a [f32], run: &Range<usize>, head: usize) -> (&'a [f32], usize) {
        let stride = self.key_width();
        let last = (run.end - 1) * stride + (head + 1) * self.width;
        (&keys[run.start * stride + head * self.width..last], stride)
    }

    /// Fills `out` with the products of `x` and the row of each key that a query sees.
    fn dots(
        self,
        batch: &Checked<'_>,
        query: usize,
        (x, keys, key_head): (&[f32], &[f32], usize),
        out: &mut Vec<f32>,
    ) {
        let seen = batch.seen(query);
        out.resize(seen.iter().map(Range::len).sum(), 0.0);
        let mut rest = &mut out[..];
        for run in seen {
            let (own, others) = rest.split_at_mut(run.len());
            let (rows, stride) = self.rows(keys, run, key_head);
            kernels::strided_dots(x, rows, stride, own);
            rest = others;
        }
    }

    /// Fills `shares` with the softmax over the keys that a query sees.
    fn shares(
        self,
        batch: &Checked<'_>,
        x: Projected<'_>,
        (query, head, key_head): (usize, usize, usize),
        shares: &mut Vec<f32>,
    ) {
        let q = &x.q[self.place(query, head)..][..self.width];
        self.dots(batch, query, (q, x.k, key_head), shares);
        kernels::scale(self.scale(), shares);
        kernels::softmax(shares);
    }
}

/// Each run of keys with the numbers that are its own.
fn by_run<'a>(
    seen: &'a [Range<usize>],
    numbers: &'a [f32],
) -> impl Iterator<Item = (Range<usize>, &'a [f32])> {
    let mut rest = numbers;
    seen.iter().map(move |run| {
        let (own, others) = rest.split_at(run.len());
        rest = others;
        (run.clone(), own)
    })
}
