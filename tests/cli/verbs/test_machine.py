def test_doctor_names_the_machine(aios, aios_json, home):
    report = aios_json("doctor")
    assert report["cpu"]["name"]
    assert any("aios pull minilm" in remedy for remedy in report["remedies"])
    assert report["cpu"]["name"] in aios("doctor").stdout


def test_bench_measures_what_is_there(aios_json, tiny_models, documents):
    aios_json("add", documents)
    rows = aios_json("bench", "--seconds", "0.1")
    assert rows["encode_sentences_per_s"] > 0
    assert rows["memories"] == 5


def test_bench_without_models_says_what_it_left_out(aios, home):
    result = aios("bench", "--seconds", "0.1")
    assert result.exit_code == 0
    assert "aios pull minilm" in result.stderr
