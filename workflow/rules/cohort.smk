rule cycles:
    input:
        lambda w: cycle_targets(PLAN),


rule courses:
    input:
        lambda w: course_targets(PLAN, available=AVAILABLE),


rule compact:
    input:
        course=lambda w: cohort_inputs(PLAN, available=AVAILABLE),
    output:
        directory(f"{RESULTS}/cohort"),
    log:
        f"{RESULTS}/logs/compact.log",
    resources:
        mem_mb=lambda w, attempt: 2000 * attempt,
        runtime=lambda w, attempt: 60 * attempt,
    params:
        version=stage_version("compact"),
        settings={},
        rows=lambda w: {
            "results": RESULTS,
            "planned": PLAN.planned(),
            "phantom_qc": PLAN.phantom_qc,
        },
    script:
        "../../scripts/compact.py"


rule compare:
    input:
        compact=f"{RESULTS}/cohort",
    output:
        directory(f"{RESULTS}/compare"),
    log:
        f"{RESULTS}/logs/compare.log",
    resources:
        mem_mb=lambda w, attempt: 4000 * attempt,
        runtime=lambda w, attempt: 60 * attempt,
    params:
        version=stage_version("compare"),
        settings={},
        rows={},
    script:
        "../../scripts/compare.py"


rule cohort_page:
    input:
        compact=f"{RESULTS}/cohort",
        compare=f"{RESULTS}/compare",
    output:
        report(
            directory(f"{RESULTS}/cohort_page"),
            patterns=["{page}.html"],
            caption="../report/cohort_page.rst",
            category="Cohort",
        ),
    log:
        f"{RESULTS}/logs/cohort_page.log",
    resources:
        mem_mb=lambda w, attempt: 2000 * attempt,
        runtime=lambda w, attempt: 60 * attempt,
    params:
        version=stage_version("cohort_page"),
        settings={},
        rows={"cohort": PLAN.cohort},
    script:
        "../../scripts/cohort_page.py"


rule cohort:
    input:
        f"{RESULTS}/cohort_page",


# Asked for by name alone; the cohort never reads what it learns here in the same run.
rule population:
    input:
        compact=f"{RESULTS}/cohort",
    output:
        directory(f"{RESULTS}/population"),
    log:
        f"{RESULTS}/logs/population.log",
    resources:
        mem_mb=lambda w, attempt: 2000 * attempt,
        runtime=lambda w, attempt: 60 * attempt,
    params:
        version=stage_version("population"),
        settings={},
        rows={"cohort": PLAN.cohort},
    script:
        "../../scripts/population.py"
