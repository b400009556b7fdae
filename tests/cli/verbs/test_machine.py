from ai_os_diffusion.inference.devices import doctor


def test_doctor_names_the_machine(aios, aios_json, home):
    report = aios_json("doctor")
    assert report["cpu"]["name"]
    assert any("aios pull minilm" in remedy for remedy in report["remedies"])
    assert report["cpu"]["name"] in aios("doctor").stdout


def test_doctor_names_the_limits_of_an_accelerator(aios, home, monkeypatch):
    report = doctor.doctor_report()
    report["device"] = {
        "used": "cuda",
        "why": "torch can use the cuda device",
        "limits": {"name": "A GPU", "capability": (9, 0)},
        "memory": {"total_bytes": 80 * 10**9, "free_bytes": 7 * 10**9},
    }
    monkeypatch.setattr(doctor, "doctor_report", lambda _config: report)
    assert "A GPU, capability 9.0, 7.0 GB of 80.0 GB free" in aios("doctor").stdout


def test_bench_measures_what_is_there(aios_json, tiny_models, documents):
    aios_json("add", documents)
    rows = aios_json("bench", "--seconds", "0.1")
    assert rows["encode_sentences_per_s"] > 0
    assert rows["memories"] == 5


def test_bench_without_models_says_what_it_left_out(aios, home):
    result = aios("bench", "--seconds", "0.1")
    assert result.exit_code == 0
    assert "aios pull minilm" in result.stderr
