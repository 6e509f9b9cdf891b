rule dose:
    input:
        ingest=f"{CYCLE}/ingest",
        segment=f"{CYCLE}/segment",
        align=f"{CYCLE}/align",
        kinetics=f"{CYCLE}/kinetics",
    output:
        directory(f"{CYCLE}/dose"),
    log:
        f"{CYCLE_LOG}_dose.log",
    resources:
        mem_mb=lambda w, attempt: 3000 * attempt,
        runtime=lambda w, attempt: 60 * attempt,
    params:
        version=stage_version("dose"),
        settings=PLAN.settings["dose"],
        rows=lambda w: PLAN.cycle(w.site, w.patient, w.cycle).rows_for("dose"),
    script:
        "../../scripts/dose.py"
