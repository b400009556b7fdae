//! A loaded model, shared by threads.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow_quant::Tensor;
use kernels::ThreadPool;

use crate::adapter::Adapter;
use crate::attention::Heads;
use crate::batcher::Batcher;
use crate::card::Card;
use crate::config::ModelConfig;
use crate::error::{InferenceError, Result};
use crate::family::{Family, names_of};
use crate::kv_cache::{CachePrecision, CacheShape, KvCache};
use crate::layout::Layout;
use crate::network::{Classifier, Network};
use crate::pass::Pass;
use crate::prefix_cache::{PrefixCache, PrefixStats};
use crate::sites::{LayerSite, Sites};
use crate::states::States;
use crate::tensors::Tensors;
use crate::workspace::Workspace;

/// Asked between slices of long work whether to go on.
pub type Watch<'a> = &'a mut dyn FnMut() -> bool;

/// Memory for the beginnings of earlier texts, unless it is set.
const DEFAULT_PREFIX_BYTES: usize = 256 << 20;

/// Numbers of models.
static MODELS: AtomicU64 = AtomicU64::new(0);

/// A network, its weights and its threads.
///
/// Calls from several threads at once are safe and independent: each takes a workspace of its own.
#[derive(Debug)]
pub struct Model {
    config: ModelConfig,
    family: &'static Family,
    /// How far tokens see in blocks that do not see everything.
    reach: Option<usize>,
    network: Network,
    /// What cards may change.
    sites: Sites,
    number: u64,
    pool: ThreadPool,
    workspaces: Mutex<Vec<Workspace>>,
    batcher: Batcher,
    prefixes: Mutex<PrefixCache>,
}

impl Model {
    /// Finds every tensor that the architecture needs and checks its shape.
    ///
    /// Tensors of a mapped file are used where they lie. `threads` counts the caller; at least 1.
    ///
    /// # Errors
    /// What is missing, misshapen or not supported, by name.
    pub fn load(mut config: ModelConfig, tensors: &[Tensor], threads: usize) -> Result<Self> {
        let family = config.family()?;
        let tensors = Tensors::new(tensors);
        if let Some(head) = family.head {
            // A description that does not say it goes by the weights.
            let is_there = tensors.contains(&format!("{head}.weight"));
            config.tied_embeddings.get_or_insert(!is_there);
        }
        let layout = Layout::of(&config)?;
        let network = Network::load(&config, &layout, &tensors)?;
        let mut sites = tensors.into_sites(&layout);
        sites.head = family.head.map(|head| LayerSite::of(head, network.head()));
        Ok(Self {
            family,
            reach: layout.reach(),
            network,
            sites,
            config,
            number: MODELS.fetch_add(1, Ordering::Relaxed),
            pool: ThreadPool::new(threads),
            workspaces: Mutex::default(),
            batcher: Batcher::default(),
            prefixes: Mutex::new(PrefixCache::new(DEFAULT_PREFIX_BYTES)),
        })
    }

    /// The description it was loaded with.
    #[must_use]
    pub const fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// The family.
    #[must_use]
    pub const fn family(&self) -> &'static Family {
        self.family
    }

    /// Threads that take part in a forward pass.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.pool.threads()
    }

    /// Prepares cards, mixed by their weights, for passes of this model, which itself stays as it is.
    ///
    /// # Errors
    /// [`InferenceError::Card`] names what does not fit: a layer that the model does not have, a wrong shape or
    /// rank, numbers that are not finite, a name or head given twice.
    pub fn adapter(&self, cards: &[Card<'_>]) -> Result<Arc<Adapter>> {
        self.prepare(cards, false)
    }

    /// As [`Model::adapter`], for passes whose rows all use the cards: they may be merged into copies of the layers,
    /// where these save more time than they take memory, and serve no session.
    ///
    /// # Errors
    /// As [`Model::adapter`]; sums that are beyond the numbers of a layer.
    pub fn merged_adapter(&self, cards: &[Card<'_>]) -> Result<Arc<Adapter>> {
        self.prepare(cards, true)
    }

    fn prepare(&self, cards: &[Card<'_>], merge: bool) -> Result<Arc<Adapter>> {
        let words = self.network.words();
        let adapter = Adapter::new(&self.pool, self.number, &self.sites, words, cards, merge)?;
        Ok(Arc::new(adapter))
    }

    /// An empty cache for one text.
    ///
    /// # Errors
    /// [`InferenceError::WrongArchitecture`] for an encoder.
    pub fn cache(&self, precision: CachePrecision) -> Result<KvCache> {
        let layers = self.decoder("generation")?.num_layers();
        Ok(KvCache::new(CacheShape {
            layers,
            layout: Heads::of(&self.config).layout(),
            precision,
        }))
    }

    /// Computes `pass` and calls `read` with the states of its wanted rows. `caches` are those that its
    /// segments count; what the pass appends is part of them afterwards, what it drops is not.
    ///
    /// # Errors
    /// What of the pass is out of range, before anything is computed; what `read` returns.
    pub fn run<T>(
        &self,
        pass: &Pass,
        caches: &mut [KvCache],
        read: impl FnOnce(&mut States<'_>) -> Result<T>,
    ) -> Result<T> {
        self.check(pass, caches)?;
        self.with_workspace(|workspace| {
            workspace.sight.set(pass, caches, self.reach);
            for (cache, rows, _) in pass.appends() {
                caches[cache].reserve(rows.len());
            }
            self.network.forward(&self.pool, workspace, pass, caches);
            for (cache, rows, keep) in pass.appends() {
                caches[cache].advance(if keep { rows.len() } else { 0 });
            }
            let len = pass.wanted().len() * self.config.hidden_size;
            let states = &workspace.states[..len];
            read(&mut States::new(self, pass, states, &mut workspace.input))
        })
    }

    /// The network, if it is one that continues texts.
    pub(crate) fn decoder(&self, operation: &'static str) -> Result<&Network> {
        if self.family.is_decoder {
            return Ok(&self.network);
        }
        Err(InferenceError::WrongArchitecture {
            operation,
            needed: format!("a decoder ({})", names_of(|family| family.is_decoder)),
            architecture: self.family.name,
        })
    }

    /// The head for whole texts.
    pub(crate) fn classifier(&self) -> Result<&Classifier> {
        let found = self.network.classifier();
        found.ok_or_else(|| InferenceError::WrongArchitecture {
            operation: "scoring whole texts",
            needed: "a model with a head for it, such as a reranker".to_owned(),
            architecture: self.family.name,
        })
    }

    /// Bounds the memory of [`Model::prefix_stats`]; 0 keeps nothing.
    pub fn limit_prefixes(&self, bytes: usize) {
        self.prefixes().limit(bytes);
    }

    /// What is kept of earlier texts for those that begin alike, and how it served.
    #[must_use]
    pub fn prefix_stats(&self) -> PrefixStats {
        self.prefixes().stats()
    }

    pub(crate) fn prefixes(&self) -> MutexGuard<'_, PrefixCache> {
        self.prefixes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) const fn batcher(&self) -> &Batcher {
        &self.batcher
    }

    pub(crate) const fn pool(&self) -> &ThreadPool {
        &self.pool
    }

    fn check(&self, pass: &Pass, caches: &[KvCache]) -> Result<()> {
        pass.check(&self.config, caches)?;
        for (rows, adapter) in pass.adapted() {
            if adapter.model() != self.number {
                return Err(InferenceError::ForeignAdapter);
            }
            if adapter.is_merged() && rows.len() < pass.rows() {
                return Err(InferenceError::MergedAdapter);
            }
        }
        for cache in caches {
            let expected = self.cache(cache.shape().precision)?.shape();
            if cache.shape() != expected {
                return Err(InferenceError::ForeignCache);
            }
        }
        Ok(())
    }

    pub(crate) fn with_workspace<T>(&self, work: impl FnOnce(&mut Workspace) -> T) -> T {
        let free = || {
            self.workspaces
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
        };
        let mut workspace = free().pop().unwrap_or_default();
        let result = work(&mut workspace);
        free().push(workspace);
        result
    }
}
