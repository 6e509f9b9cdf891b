"""What every refusal means, where it comes from and how it reads.

`docs/refusals.md` is generated from here. A refusal's code, what it means and what to do are what a user
filters and acts upon, so that codes are never renamed; the sentence says the rest. Each example is what the
program really says: a test provokes it and compares.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from doseledger import errors
from doseledger.errors import DoseledgerError

#: Commands and stages that read images and sheets together.
_READING: Final = ("check", "ingest", "camera")


@dataclass(frozen=True)
class Refusal:
    """A kind of refusal; code and advice are those of the error.

    Attributes
    ----------
    kind
        The error that carries it.
    meaning
        What is wrong, in general.
    where
        Stages whose outcome can have it, and commands that can say it.
    example
        A whole sentence, as it stands in the outcome of a stage or on the screen.
    """

    kind: type[DoseledgerError]
    meaning: str
    where: tuple[str, ...]
    example: str

    @property
    def code(self) -> str:
        return self.kind.code


REFUSALS: Final = (
    Refusal(
        errors.SheetError,
        "A sheet or the config does not hold what it must: a column is missing or unknown, a cell has another "
        "form, unit or range, a row is there twice, or two sheets contradict each other.",
        ("check", "ingest", "segment", "align", "camera", "run"),
        "line 2: measured_activity_mbq: 7.4 MBq is no therapy activity of Lu-177; was it written in GBq? (site A,"
        " patient P1, cycle 1; file administrations.tsv; tag measured_activity_mbq; found '7.4'). Correct the "
        "sheet; config/README.md describes every column and its unit.",
    ),
    Refusal(
        errors.AdministrationMissingError,
        "A cycle has scans but no row in administrations.tsv. Without injection time and activity no scan has a "
        "time or a dose.",
        ("check", "ingest"),
        "the cycle has scans but no administration (site A, patient P1, cycle 1; file administrations.tsv). Add "
        "the cycle's row to administrations.tsv: the injection time and activity are never guessed.",
    ),
    Refusal(
        errors.InputMissingError,
        "A file or folder that a sheet names is not there, is empty, or is needed by the chosen method and not "
        "named at all.",
        ("check", "ingest", "segment", "camera", "compare"),
        "the file does not exist (site A, patient P1, cycle 1; file t1/spect). Correct the path in scans.tsv "
        "(paths are relative to the config file) or restore the files.",
    ),
    Refusal(
        errors.FileUnreadableError,
        "A file is not what it should be: not DICOM or NIfTI, cut off, or its pixels cannot be decoded.",
        ("check", "ingest", "segment", "camera"),
        "the file is truncated: it ends in the middle of an element (site A, patient P1, cycle 1; file "
        "t1/ct/0_1.dcm). Export the file again from the archive: it is truncated or not DICOM.",
    ),
    Refusal(
        errors.ModalityError,
        "The file is of a kind that the step cannot use: projections or gated images instead of a reconstruction,"
        " a localizer among CT slices, several radiopharmaceuticals in one image, a file without outlines.",
        ("check", "ingest", "segment", "camera"),
        "the NM image is not a tomographic reconstruction of emission (site A, patient P1, cycle 1; file "
        "t1/spect/nm.dcm; tag ImageType (0008,0008); found 'ORIGINAL\\\\PRIMARY\\\\TOMO\\\\EMISSION'; expected 'RECON "
        "TOMO'). Export the attenuation-corrected reconstruction, ungated.",
    ),
    Refusal(
        errors.MixedSeriesError,
        "A folder holds more than one series or patient, or the scans of a cycle are not of one patient. Images "
        "of several beds must be of one reconstruction.",
        ("check", "ingest", "segment", "camera"),
        "the files are not of one series: 0_1.dcm and 1_3.dcm (site A, patient P1, cycle 1; file t1/ct/1_3.dcm; "
        "tag SeriesInstanceUID (0020,000E)). Put each series of each patient into a folder of its own.",
    ),
    Refusal(
        errors.UnitError,
        "The image is neither in Bq/mL nor in counts with a declared sensitivity, or its scales contradict each "
        "other. SUV is never turned back into activity.",
        _READING,
        "the image is not in a known unit of activity concentration (site A, patient P1, cycle 1; file "
        "t1/spect/0_1.dcm; tag Units (0054,1001); found 'GML'; expected 'BQML'). Export the reconstruction in "
        "Bq/mL (BQML), or give the camera's sensitivity for counts.",
    ),
    Refusal(
        errors.EnergyWindowError,
        "It is not clear which energy window of the image is that of the photopeak.",
        _READING,
        "no energy window of the image sees a photopeak of Lu-177 (site A, patient P1, cycle 1; file "
        "t1/spect/nm.dcm; tag EnergyWindowInformationSequence (0054,0012); found ['166.4-187.2', '130.0-150.0']; "
        "expected 'one window'). Export the reconstruction of the photopeak alone, or declare energy_window_kev "
        "in cameras.tsv.",
    ),
    Refusal(
        errors.SlicesMissingError,
        "The volume has a gap: slices, frames or a part between two beds are missing.",
        _READING,
        "1 slice(s) missing between -288.00 and -280.00 mm along the slice normal, after 2_3.dcm (site A, patient"
        " P1, cycle 1; file t1/ct/8_5.dcm; tag ImagePositionPatient (0020,0032); found 8.0; expected 4.0). Export"
        " the complete series again.",
    ),
    Refusal(
        errors.GeometryError,
        "The slices do not make one regular volume, or nothing says where it lies: tilted gantry, a slice twice "
        "or off its place, slices of unequal size, a stale position in a NIfTI file.",
        ("check", "ingest", "segment", "camera"),
        "the gantry is tilted (site A, patient P1, cycle 1; file t1/ct/0_1.dcm; tag GantryDetectorTilt "
        "(0018,1120); found 12.0; expected 0.0). Export the series that the scanner made upright, or leave the CT"
        " out of scans.tsv.",
    ),
    Refusal(
        errors.TagMissingError,
        "The header lacks a value without which the image has no right place, time or scale.",
        _READING,
        "the header has neither the spacing nor the thickness of the slices (site A, patient P1, cycle 1; file "
        "t1/spect/nm.dcm; tag SpacingBetweenSlices (0018,0088), SliceThickness (0018,0050)). The value is never "
        "guessed: export the series with this tag, or declare it in a sheet.",
    ),
    Refusal(
        errors.TimeError,
        "The times cannot be right: a scan before the injection, time points out of order, a time that no clock "
        "showed, or a scan whose duration is not clear.",
        _READING,
        "the scan starts before the injection (site A, patient P1, cycle 1; file t1/spect; tag injection_start; "
        "found '22.00 h before it'; expected 'a scan after the injection'). Check injection time, scan time and "
        "time zone in administrations.tsv and in the header.",
    ),
    Refusal(
        errors.CrossCheckError,
        "Header and sheet say different things about activity, injection time, nuclide, clock or number of "
        "detectors, beyond the tolerance in the config.",
        _READING,
        "administered activity of header and sheet differ (site A, patient P1, cycle 1; file t1/spect; tag "
        "RadionuclideTotalDose (0018,1074); found '7400 MBq'; expected '6000 MBq'). Find out which of the two is "
        "right and correct the sheet.",
    ),
    Refusal(
        errors.ContourError,
        "The structure set cannot be used: drawn on another image, without contours, incomplete, or absent where "
        "outlines are the source of the regions.",
        ("segment", "camera"),
        "the structure set was drawn on another image (site A, patient P1, cycle 1; file t1/organs.dcm; tag "
        "ReferencedFrameOfReferenceUID (3006,0024); found ['1.2.826.0.1.3680043.8.498.5']; expected ['1.2.3']). "
        "Redraw or export the structure set again, on the series named in the sheet.",
    ),
    Refusal(
        errors.SegmentationFileError,
        "A DICOM segmentation or a label map cannot be used: drawn on another series, on other voxels, or without"
        " names.",
        ("segment",),
        "the segmentation was drawn on another series (site A, patient P1, cycle 1; file t1/organs.dcm; tag "
        "ReferencedSeriesSequence (0008,1115); found ['1.2.826.0.1.3680043.8.498.2']; expected ['1.2.3']). Export"
        " the segmentation again, on the voxels of the series named in the sheet.",
    ),
    Refusal(
        errors.QuantityError,
        "A number has no physical meaning: negative, not finite, an empty region, or beyond what the method can take.",
        ("check", "ingest", "segment", "kinetics", "dose", "course", "camera"),
        "the duration of the scan is not positive (site A, patient P1, cycle 1; file t1/spect/2_0.dcm; tag "
        "ActualFrameDuration (0018,1242); found 0.0). Check the unit and the sign of the value.",
    ),
    Refusal(
        errors.NuclideError,
        "The nuclide is not in the decay data of ICRP Publication 107.",
        _READING,
        "the nuclide is not in ICRP-107 (site A, patient P1, cycle 1; file administrations.tsv; tag nuclide; "
        "found 'Lu-999'; expected 'Lu-177'). Write the nuclide as in 'Lu-177'.",
    ),
    Refusal(
        errors.RegistrationError,
        "Two time points of a cycle cannot be brought onto each other. No cycle is refused for it: the scan is flagged "
        "and measured in its own outlines, and the sentence stands in alignment.json.",
        ("align",),
        "the time points cannot be registered (site A, patient P1, cycle 1; "
        "found 'ITK ERROR: ImageMomentsCalculator: Compute(): Total Mass of the image was zero. Aborting here to "
        "prevent division by zero later on.'). Look at the images: wrong patient, wrong cycle, or a field of view "
        "without overlap?",
    ),
    Refusal(
        errors.SegmentationError,
        "The model cannot be asked for what the config wants, or its answer is of no use: a licensed task, an "
        "unknown class, another version, no region found.",
        ("segment", "weights"),
        "the task needs a licence key of TotalSegmentator, which doseledger does not use (site A, patient P1, "
        "cycle 1; tag task; found 'tissue_types'; expected ('total', 'body', 'head_glands_cavities')). Use an "
        "open task, or import the licensed tool's masks as contours.",
    ),
    Refusal(
        errors.ReviewRejectedError,
        "A person has looked at the masks and rejected them.",
        ("segment",),
        "the masks were rejected in review (site A, patient P1, cycle 1; file review.tsv; tag time point 1; found"
        " 'left kidney cut off'). Give a corrected label map in review.tsv (decision edit), or leave the cycle "
        "out.",
    ),
    Refusal(
        errors.WeightsError,
        "The model's weights are absent, incomplete, changed, not registered, or know only virtual patients.",
        ("segment", "weights"),
        "the weights folder does not exist (site A, patient P1, cycle 1; file weights). Fetch the weights on a "
        "machine with internet access (`doseledger weights fetch`), then copy the folder.",
    ),
    Refusal(
        errors.PhantomError,
        "A phantom scan of a camera study contradicts what was filled, or is not what a measurement needs.",
        ("camera",),
        "size and volume of sphere_37mm contradict each other (file phantoms.tsv; tag size_mm; found '18.5 mm is "
        "3.315 mL'; expected '26.5 mL within 10%'). Write inner diameters, not radii, and the volume that was "
        "filled.",
    ),
    Refusal(
        errors.PriorError,
        "A file of population kinetics (prior or site summary) cannot be used: unknown or missing keys, numbers that "
        "are not finite, a covariance that is none, or a layout of another version. Or it lies in the results of the "
        "cohort that reads it, or there is nothing that one could be learnt from.",
        ("check", "ingest", "population"),
        "the prior file is of another version (site A, patient P1, cycle 1; file prior.json; tag schema_version; "
        "found 2; expected 1). Take the file as it was exported: `doseledger` writes prior files, nobody edits them.",
    ),
    Refusal(
        errors.UnknownNameError,
        "A program that calls doseledger asks for a method, model or engine that does not exist; in a config this"
        " is `sheet_invalid`.",
        ("simulate",),
        "the dose engine is not known (found 'magic'; expected ['led', 'organ', 'pmc', 'vsv']). Use one of the names "
        "listed.",
    ),
    Refusal(
        errors.ForeignResultsError,
        "The results folder belongs to another cohort, or to nothing that doseledger made.",
        ("run", "simulate", "compare"),
        "the results folder belongs to another cohort (file results; found 'first'; expected 'second'). Give each"
        " cohort its own results folder.",
    ),
    Refusal(
        errors.IdentifyingError,
        "Something that a site would share may identify a person, a date or a machine, or is a declared text that "
        "nobody has looked at.",
        ("submit", "import-results"),
        "what would be shared holds a date (tag patient.diagnosis; found 'ileum NET 2024-05-03'). Correct the sheet, "
        "run the cohort again, and submit again; nothing was written.",
    ),
    Refusal(
        errors.SubmissionError,
        "A submission cannot be merged: damaged, beyond a limit, with other columns or units, made by a newer "
        "version, or with text that could be read as a command.",
        ("merge",),
        "the archive is damaged or no zip archive (file site.zip; found 'BadZipFile'). Ask the site for a new "
        "submission; nothing was merged.",
    ),
    Refusal(
        errors.ResultsInUseError,
        "Another run of the same results folder has not ended. One on the same machine that was killed is taken over"
        " without asking; of one on another machine that cannot be known.",
        ("run",),
        "a run of another machine has not ended, or was killed (file results; found 'process 4711 on node12 since "
        "2026-03-02T18:30:00+01:00'). If that process is gone, start again with --take-over.",
    ),
    Refusal(
        errors.ResultsNotWritableError,
        "Nothing can be written to the results folder, or where Snakemake keeps its records.",
        ("run",),
        "nothing can be written there (file results; found 'Read-only file system'). Get the right to write there, "
        "or set another folder (config results).",
    ),
    Refusal(
        errors.DiskFullError,
        "The disk of the results folder is full: before a run, or after jobs failed. `doseledger check` says "
        "beforehand how much a cohort may take.",
        ("run",),
        "the disk is full (file results; found '3 MB free'; expected 'at least 100 MB'). Make room, then run again: "
        "what is finished stays.",
    ),
    Refusal(
        errors.JobsAliveError,
        "Slurm jobs of a run that was killed may be alive, and cannot be asked for or do not end. The same work is "
        "never submitted beside them.",
        ("run",),
        "Slurm does not say whether jobs of an earlier run are alive (found 'squeue: Unable to contact slurm "
        "controller'). Start where squeue answers, or look at these jobs (scontrol show job), then run again.",
    ),
)

_HEAD: Final = """\
# Refusals

Generated by `doseledger schemas`; do not edit. doseledger is research software and not a medical device.

Data that must not be used are refused, never repaired by a guess. A refused cycle is a row of the table
`stage_outcome` (and the `outcome.json` of its stage) with a code, a sentence, the file and the tag or column;
the stages after it carry the refusal on, and `origin_stage` says where it began. The cohort goes on without
the cycle. `doseledger check` says the same before any job runs, of all that can be seen in sheets and headers;
`doseledger status` lists what was refused so far. A command that is refused ends with the sentence and status 2.

The code says what kind of thing is wrong and never changes its name: filter and count by it. The sentence says
what exactly, where, and what to do. A job that *failed* is something else: no memory, no disk, or a defect of
the program. It has no code of this page and may succeed when it is run again; a refused cycle is refused until
its input is changed.
"""


def refusals_page() -> str:
    """The page of all refusals as Markdown, in the order of the way through the program."""
    lines = [_HEAD, "| code | said by |", "|---|---|"]
    lines += [f"| [`{r.code}`](#{r.code}) | {', '.join(r.where)} |" for r in REFUSALS]
    for refusal in REFUSALS:
        lines += ["", f"## {refusal.code}", "", refusal.meaning, "", f"What to do: {refusal.kind.remedy}"]
        lines += ["", "For example:", "", "```text", refusal.example, "```"]
    return "\n".join(lines) + "\n"
