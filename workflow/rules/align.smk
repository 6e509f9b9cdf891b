rule align:
    input:
        ingest=f"{CYCLE}/ingest",
        segment=f"{CYCLE}/segment",
    output:
        directory(f"{CYCLE}/align"),
    log:
        f"{CYCLE_LOG}_align.log",
    resources:
        mem_mb=lambda w, attempt: 3000 * attempt,
        runtime=lambda w, attempt: 30 * attempt,
    params:
        version=stage_version("align"),
        settings=PLAN.settings["align"],
        rows=lambda w: PLAN.cycle(w.site, w.patient, w.cycle).rows_for("align"),
    script:
        "../../scripts/align.py"
