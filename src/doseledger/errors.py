"""Errors that take data and build their own sentence: what, where, what to do.

Every `DoseledgerError` means *data that must not be used*: the stage wrapper turns it into a
``refused`` outcome of the cycle, never into a crash of the cohort. Anything else that is raised
is a defect or a lack of resources and ends as ``failed``.
"""

from __future__ import annotations

import errno
from pathlib import Path
from typing import ClassVar, Self


class DoseledgerError(Exception):
    """Data that must not be used.

    Parameters
    ----------
    what
        What is wrong, as a clause without a full stop.
    path, tag, value, expected
        Where it was found: file, DICOM tag or sheet column, what stood there, what belongs there.
    remedy
        What the user can do; the class has one if none is given.
    """

    code: str = "refused"
    remedy: ClassVar[str] = "Correct the input and run again."

    def __init__(
        self,
        what: str,
        *,
        path: str | Path | None = None,
        tag: str | None = None,
        value: object = None,
        expected: object = None,
        remedy: str | None = None,
    ) -> None:
        super().__init__(what)
        self.what = what
        self.path = None if path is None else str(path)
        self.tag = tag
        self.value = value
        self.expected = expected
        self.advice = remedy or type(self).remedy
        self.where: str | None = None

    def within(self, where: str) -> Self:
        """Name the patient and cycle, which the code that noticed the defect did not know."""
        self.where = self.where or where
        return self

    @property
    def sentence(self) -> str:
        """The whole message: what, where, what to do."""
        found = [
            part
            for part in (
                self.where,
                None if self.path is None else f"file {self.path}",
                None if self.tag is None else f"tag {self.tag}",
                None if self.value is None else f"found {self.value!r}",
                None if self.expected is None else f"expected {self.expected!r}",
            )
            if part
        ]
        where = f" ({'; '.join(found)})" if found else ""
        return f"{self.what}{where}. {self.advice}"

    def __str__(self) -> str:
        return self.sentence

    def __reduce__(self) -> tuple[object, ...]:
        # Keyword-only data would be lost by the default pickling of exceptions (process pools).
        return (_rebuild, (type(self), self.what, dict(self.__dict__)))


def _rebuild(kind: type[DoseledgerError], what: str, state: dict[str, object]) -> DoseledgerError:
    error = kind(what)
    error.__dict__.update(state)
    return error


class _AsWritten(str):
    """Text that is shown as it is: it was already quoted when it was recorded."""

    def __repr__(self) -> str:
        return str(self)


class RecordedError(DoseledgerError):
    """An error that was found when the plan was made, raised where the cycle is refused."""

    def __init__(self, what: str, *, code: str = "refused", **found: str | None) -> None:
        super().__init__(what, **found)
        self.code = code
        self.value = None if self.value is None else _AsWritten(self.value)
        self.expected = None if self.expected is None else _AsWritten(self.expected)


def record(error: DoseledgerError) -> dict[str, str | None]:
    """Plain data from which ``RecordedError(**record(error))`` says the same again."""

    def text(value: object) -> str | None:
        return None if value is None else repr(value)

    return {
        "what": error.what,
        "code": error.code,
        "path": error.path,
        "tag": error.tag,
        "value": text(error.value),
        "expected": text(error.expected),
        "remedy": error.advice,
    }


class SheetError(DoseledgerError):
    code = "sheet_invalid"
    remedy = "Correct the sheet; config/README.md describes every column and its unit."


class AdministrationMissingError(DoseledgerError):
    code = "administration_missing"
    remedy = "Add the cycle's row to administrations.tsv: the injection time and activity are never guessed."


class InputMissingError(DoseledgerError):
    code = "input_missing"
    remedy = "Correct the path in scans.tsv (paths are relative to the config file) or restore the files."


class FileUnreadableError(DoseledgerError):
    code = "file_unreadable"
    remedy = "Export the file again from the archive: it is truncated or not DICOM."


class ModalityError(DoseledgerError):
    code = "modality_unsupported"
    remedy = "Point the sheet at a reconstructed series of the expected modality."


class MixedSeriesError(DoseledgerError):
    code = "series_mixed"
    remedy = "Put each series of each patient into a folder of its own."


class UnitError(DoseledgerError):
    code = "unit_unknown"
    remedy = "Export the reconstruction in Bq/mL (BQML), or give the camera's sensitivity for counts."


class EnergyWindowError(DoseledgerError):
    code = "energy_window_unclear"
    remedy = "Export the reconstruction of the photopeak alone, or declare energy_window_kev in cameras.tsv."


class SlicesMissingError(DoseledgerError):
    code = "slices_missing"
    remedy = "Export the complete series again."


class GeometryError(DoseledgerError):
    code = "geometry_invalid"
    remedy = "Export the series again without resampling or reformatting."


class TagMissingError(DoseledgerError):
    code = "tag_missing"
    remedy = "The value is never guessed: export the series with this tag, or declare it in a sheet."


class TimeError(DoseledgerError):
    code = "time_invalid"
    remedy = "Check injection time, scan time and time zone in administrations.tsv and in the header."


class CrossCheckError(DoseledgerError):
    code = "header_contradicts_sheet"
    remedy = "Find out which of the two is right and correct the sheet."


class ContourError(DoseledgerError):
    code = "contours_invalid"
    remedy = "Redraw or export the structure set again, on the series named in the sheet."


class SegmentationFileError(DoseledgerError):
    code = "segmentation_invalid"
    remedy = "Export the segmentation again, on the voxels of the series named in the sheet."


class QuantityError(DoseledgerError):
    code = "quantity_invalid"
    remedy = "Check the unit and the sign of the value."


class NuclideError(DoseledgerError):
    code = "nuclide_unknown"
    remedy = "Write the nuclide as in 'Lu-177'."


class RegistrationError(DoseledgerError):
    code = "registration_failed"
    remedy = "Look at the images: wrong patient, wrong cycle, or a field of view without overlap?"


class SegmentationError(DoseledgerError):
    code = "segmentation_refused"
    remedy = "Correct the segmentation settings, or outline the organs by hand (contours)."


class ReviewRejectedError(DoseledgerError):
    code = "rejected_in_review"
    remedy = "Give a corrected label map in review.tsv (decision edit), or leave the cycle out."


class WeightsError(DoseledgerError):
    code = "weights_unusable"
    remedy = "Fetch the weights again on a machine with internet access, then copy the folder."


class PhantomError(DoseledgerError):
    code = "phantom_unusable"
    remedy = "Compare phantoms.tsv with the filling record and the image; config/README.md describes the sheet."


class PriorError(DoseledgerError):
    code = "prior_invalid"
    remedy = "Take the file as it was exported: `doseledger` writes prior files, nobody edits them."


class UnknownNameError(DoseledgerError):
    code = "name_unknown"
    remedy = "Use one of the names listed."


class ForeignResultsError(DoseledgerError):
    code = "results_foreign"
    remedy = "Give each cohort its own results folder."


class IdentifyingError(DoseledgerError):
    code = "identifying_content"
    remedy = "Correct the sheet, run the cohort again, and submit again; nothing was written."


class SubmissionError(DoseledgerError):
    code = "submission_invalid"
    remedy = "Ask the site for a new submission; nothing was merged."


class ResultsInUseError(DoseledgerError):
    code = "results_in_use"
    remedy = "Wait for its end, or end that process (kill -INT): it cancels its jobs."


class ResultsNotWritableError(DoseledgerError):
    code = "results_not_writable"
    remedy = "Get the right to write there, or set another folder (config results)."


class DiskFullError(DoseledgerError):
    code = "disk_full"
    remedy = "Make room, then run again: what is finished stays."


class JobsAliveError(DoseledgerError):
    code = "jobs_alive"
    remedy = "Start where squeue answers, or look at these jobs (scontrol show job), then run again."


def of_writing(error: OSError) -> DoseledgerError | None:
    """What a folder that cannot be written to means to the user; None if the error is something else."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFullError("the disk is full", path=error.filename, value=error.strerror)
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        return ResultsNotWritableError("nothing can be written there", path=error.filename, value=error.strerror)
    return None


class StageDamagedError(Exception):
    """A finished stage folder does not hold what its manifest lists: ``failed``, not ``refused``."""

    def __init__(self, path: str | Path, detail: str) -> None:
        # The message reaches the ledger: the place in the results, not on the machine.
        place = "/".join(Path(path).parts[-4:])
        super().__init__(
            f"{place} is damaged: {detail}. Run `doseledger verify RESULTS --discard`, then start the workflow again."
        )
        self.path = str(path)
        self.detail = detail

    def __reduce__(self) -> tuple[object, ...]:
        return (type(self), (self.path, self.detail))
