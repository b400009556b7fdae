"""The public names are a promise: adding one is a decision, losing one breaks its users."""

from __future__ import annotations

import importlib

import pytest

PUBLIC = {
    "ai_os_diffusion": "ArrowEngine ArrowStorage __version__ open_runtime",
    "ai_os_diffusion.config": (
        "Config ModelConfig PerformanceConfig RetrievalConfig Setting StorageConfig "
        "describe_config load_config misspelt_variables"
    ),
    "ai_os_diffusion.contracts": "Chunk Hit Memory Message Metadata TokenCounter",
    "ai_os_diffusion.diffusion": (
        "AbsorbingCorruption Ask Calibration Candidates Canvas Condition Corruption Denoiser DenoisingStep "
        "DenoisingText DiffusionCore DiffusionRequest Feature MemoryConditioner NoiseScheduler Predictions "
        "Recalled Trajectory UncertaintyEstimator UniformCorruption Written"
    ),
    "ai_os_diffusion.evolution": (
        "Budget Choice Consolidation ControlConfig Costs Decision DecisionLog EvolutionRound EvolutionRouter "
        "EvolutionStatus EvolutionWorker Feedback FeedbackQueue Gate Level LoRACard LoRAConfig LoRALinear "
        "LoRATrainer QAPair QAPairs Route Situation SkillRouter SkillTest SkillVersions TextPairs Tolerances "
        "Verdict find_skill list_skills remove_skill"
    ),
    "ai_os_diffusion.inference": (
        "ArrowEngine Banned Diffusion DiffusionStep DiffusionStream FastTokenizer FollowsSchema Generation "
        "GenerationStream InferenceCore Matches Required WeightLoader get_best_device get_cpu_features "
        "get_device_info is_rocm_platform is_vulkan_available print_device_info"
    ),
    "ai_os_diffusion.inference.constraints": (
        "Banned Constraint ConstraintSet FollowsSchema Matches Required"
    ),
    "ai_os_diffusion.models.convert": "ConvertReport convert_model",
    "ai_os_diffusion.inference.device_utils": (
        "DEVICE_KINDS DeviceInfo get_best_device get_cpu_features get_device_info is_rocm_platform "
        "is_vulkan_available print_device_info resolve_device torch_problem"
    ),
    "ai_os_diffusion.runtime": "Runtime open_runtime",
    "ai_os_diffusion.storage": (
        "ArrowStorage Candidate Candidates MemoryView TextHits holds_for_all is_store"
    ),
    "ai_os_diffusion.training": "Example ExampleSource Piece Recipe TrainingResult train_diffusion",
    "ai_os_diffusion.training.reader": "Asked Passage ReaderRecipe pack_reader train_reader",
    "ai_os_diffusion.utils.embedding_provider": "EmbeddingProvider",
}


@pytest.mark.parametrize("module", PUBLIC)
def test_a_module_offers_what_it_promises(module):
    loaded = importlib.import_module(module)
    assert sorted(loaded.__all__) == sorted(PUBLIC[module].split())
    for name in loaded.__all__:
        assert getattr(loaded, name) is not None


@pytest.mark.parametrize(
    ("owner", "names"),
    [
        (
            "inference.ArrowEngine",
            "encode encode_query encode_document similarity embed generate perplexity dimension "
            "max_seq_length model_info close diffuse diffuse_stream conditioner attach detach attached",
        ),
        (
            "inference.WeightLoader",
            "load_weights get_layer get_layer_names get_metadata get_schema_version get_cached_layers "
            "unload_layer unload_layers clear_cache get_cache_size_mb",
        ),
        (
            "inference.FastTokenizer",
            "encode decode batch_decode count vocab_size token_to_id id_to_token apply_chat_template",
        ),
        (
            "storage.ArrowStorage",
            "save load query_by_similarity save_many update delete delete_where count iter query to_arrow "
            "to_polars to_duckdb snapshot compact verify import_parquet export_parquet stats close "
            "search_text rebuild_text_index",
        ),
    ],
)
def test_a_class_has_the_methods_of_the_design(owner, names):
    module, _, cls = owner.rpartition(".")
    found = getattr(importlib.import_module(f"ai_os_diffusion.{module}"), cls)
    assert [name for name in names.split() if not hasattr(found, name)] == []
