rule compact:
    input:
        course=cohort_inputs(PLAN, available=AVAILABLE),
    output:
        directory(f"{RESULTS}/cohort"),
    params:
        version=stage_version("compact"),
        settings={},
        rows={"results": RESULTS, "planned": PLAN.planned()},
    log:
        f"{RESULTS}/logs/compact.log",
    resources:
        mem_mb=lambda w, attempt: 2000 * attempt,
    script:
        "../../scripts/compact.py"


rule cohort_page:
    input:
        compact=f"{RESULTS}/cohort",
    output:
        directory(f"{RESULTS}/cohort_page"),
    params:
        version=stage_version("cohort_page"),
        settings={},
        rows={"cohort": PLAN.cohort},
    log:
        f"{RESULTS}/logs/cohort_page.log",
    resources:
        mem_mb=lambda w, attempt: 2000 * attempt,
    script:
        "../../scripts/cohort_page.py"


rule cohort:
    input:
        f"{RESULTS}/cohort_page",
