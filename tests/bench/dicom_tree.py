"""A tree of files with headers as hospitals have them: what the benchmark of the index reads.

Patients with four scans each, of which every one has a CT of many slices, a SPECT as PET series, the
projections it came from, a planar image and a localizer. Headers have some 120 elements, sequences and private
ones among them. Pixels are there in full length and take no room: the files are sparse.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

CT: Final = "1.2.840.10008.5.1.4.1.1.2"
PET: Final = "1.2.840.10008.5.1.4.1.1.128"
NM: Final = "1.2.840.10008.5.1.4.1.1.20"
ROOT: Final = "1.3.12.2.1107.5.1.4.60321.30000024010208"
FIRST_SCAN: Final = datetime(2024, 1, 2, 10, 0)
#: Days of the scans of a patient: two cycles of two scans.
DAYS: Final = (0, 3, 56, 59)
CT_SLICES: Final = 396
PET_SLICES: Final = 100
#: CT, PET, two NM images and two localizers.
FILES_PER_SCAN: Final = CT_SLICES + PET_SLICES + 4
#: Stand for what differs between the slices of a series; each is as long as what replaces it.
_UID, _NUMBER, _PLACE, _CLOCK = "9.8.7.6.5.43210", "987654", "-9876.54", "235958.987654"

#: Elements that every image of a hospital has, about in the order of a header.
COMMON: Final[Mapping[str, Any]] = {
    "SpecificCharacterSet": "ISO_IR 100",
    "InstanceCreationDate": "20240102",
    "InstanceCreationTime": "101502.123000",
    "StudyDate": "20240102",
    "ContentDate": "20240102",
    "ContentTime": "101501.000000",
    "StudyTime": "095501.000000",
    "AccessionNumber": "A000123456",
    "Manufacturer": "SIEMENS",
    "InstitutionName": "University Hospital",
    "InstitutionAddress": "1 Hospital Street, Town",
    "ReferringPhysicianName": "Referrer^A",
    "StationName": "NM-CAM-2",
    "StudyDescription": "NM Lu-177 Therapy post treatment",
    "SeriesDescription": "Abdomen and Thorax",
    "InstitutionalDepartmentName": "Nuclear Medicine",
    "PhysiciansOfRecord": "Physician^B",
    "PerformingPhysicianName": "Physician^C",
    "OperatorsName": "Operator^D",
    "ManufacturerModelName": "Symbia Intevo 16",
    "PatientName": "Doe^Jane",
    "IssuerOfPatientID": "UH",
    "PatientBirthDate": "19570203",
    "PatientSex": "F",
    "OtherPatientIDs": "OTHER-1",
    "PatientAge": "066Y",
    "PatientSize": "1.68",
    "PatientWeight": "71.5",
    "MedicalAlerts": "none",
    "Allergies": "none",
    "PregnancyStatus": 1,
    "AdditionalPatientHistory": "neuroendocrine tumour of the small bowel",
    "BodyPartExamined": "ABDOMEN",
    "DeviceSerialNumber": "60321",
    "SoftwareVersions": ["VB22B", "syngo MI"],
    "ProtocolName": "Lu177 SPECTCT",
    "PatientPosition": "HFS",
    "StudyID": "1",
    "AcquisitionNumber": "2",
    "PositionReferenceIndicator": "",
    "ImageComments": "AC",
    "SamplesPerPixel": 1,
    "PhotometricInterpretation": "MONOCHROME2",
    "BitsAllocated": 16,
    "BitsStored": 16,
    "HighBit": 15,
    "LossyImageCompression": "00",
    "RequestingPhysician": "Physician^B",
    "RequestingService": "Oncology",
    "RequestedProcedureDescription": "Lu-177 SPECT/CT",
    "PerformedProcedureStepStartDate": "20240102",
    "PerformedProcedureStepStartTime": "095501.000000",
    "PerformedProcedureStepID": "PPS1",
    "PerformedProcedureStepDescription": "NM Lu-177 Therapy",
    "CommentsOnThePerformedProcedureStep": "none",
    "IssueDateOfImagingServiceRequest": "20231228",
    "PlacerOrderNumberImagingServiceRequest": "P1",
    "FillerOrderNumberImagingServiceRequest": "F1",
}
CT_ONLY: Final[Mapping[str, Any]] = {
    "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL", "CT_SOM5 SPI"],
    "ScanOptions": "FAST",
    "SliceThickness": "1.5",
    "KVP": "130",
    "DataCollectionDiameter": "500",
    "ReconstructionDiameter": "500",
    "DistanceSourceToDetector": "940",
    "DistanceSourceToPatient": "535",
    "GantryDetectorTilt": "0",
    "TableHeight": "158",
    "RotationDirection": "CW",
    "ExposureTime": "600",
    "XRayTubeCurrent": "39",
    "Exposure": "20",
    "FilterType": "0",
    "GeneratorPower": "5",
    "FocalSpots": ["0.8"],
    "DateOfLastCalibration": ["20240102"],
    "TimeOfLastCalibration": ["061500.000000"],
    "ConvolutionKernel": "B31s",
    "SingleCollimationWidth": 1.2,
    "TotalCollimationWidth": 19.2,
    "TableSpeed": 32.0,
    "TableFeedPerRotation": 19.2,
    "SpiralPitchFactor": 1.0,
    "ExposureModulationType": "XYZ_EC",
    "EstimatedDoseSaving": 12.5,
    "CTDIvol": 2.1,
    "AcquisitionType": "SPIRAL",
    "FilterMaterial": ["ALUMINUM", "TITANIUM"],
    "ExposureTimeInms": 600.0,
    "PixelSpacing": ["0.9765625", "0.9765625"],
    "PixelRepresentation": 0,
    "SmallestImagePixelValue": 0,
    "LargestImagePixelValue": 2200,
    "WindowCenter": ["40", "-600"],
    "WindowWidth": ["400", "1200"],
    "RescaleIntercept": "-1024",
    "RescaleSlope": "1",
    "RescaleType": "HU",
    "WindowCenterWidthExplanation": ["WINDOW1", "WINDOW2"],
}
SPECT_ONLY: Final[Mapping[str, Any]] = {
    "CountsAccumulated": "24500000",
    "AcquisitionStartCondition": "MANU",
    "AcquisitionTerminationCondition": "TIME",
    "ActualFrameDuration": "1500000",
    "CollimatorType": "PARA",
    "CollimatorGridName": "MELP",
    "ReconstructionMethod": "OSEM3D 12i8s",
    "SliceThickness": "4.79",
    "PixelSpacing": ["4.79", "4.79"],
    "PixelRepresentation": 0,
    "SmallestImagePixelValue": 0,
    "LargestImagePixelValue": 32767,
    "WindowCenter": "16384",
    "WindowWidth": "32767",
    "RescaleIntercept": "0",
    "CorrectedImage": ["ATTN", "SCAT", "DECY", "DTIM"],
}
PET_ONLY: Final[Mapping[str, Any]] = {
    "ImageType": ["ORIGINAL", "PRIMARY"],
    "Units": "BQML",
    "CountsSource": "EMISSION",
    "SeriesType": ["WHOLE BODY", "IMAGE"],
    "DecayCorrection": "START",
    "AttenuationCorrectionMethod": "CT",
    "ScatterCorrectionMethod": "DEW",
    "RandomsCorrectionMethod": "NONE",
    "NumberOfSlices": PET_SLICES,
    "FrameReferenceTime": "0",
    "DecayFactor": "1",
    "DoseCalibrationFactor": "1",
    "ScatterFractionFactor": "0.2",
    "ImageIndex": 1,
    "RescaleSlope": "0.5",
}
NM_ONLY: Final[Mapping[str, Any]] = {
    "NumberOfFrames": 128,
    "FrameIncrementPointer": 0x00540080,
    "SliceVector": list(range(1, 129)),
    "NumberOfSlices": 128,
    "NumberOfDetectors": 2,
    "NumberOfRotations": 1,
    "NumberOfEnergyWindows": 1,
}


def write_tree(folder: Path, files: int) -> int:
    """Write about `files` files (whole scans) and return how many."""
    scans = max(files // FILES_PER_SCAN, 1)
    for scan in range(scans):
        patient, visit = divmod(scan, len(DAYS))
        start = FIRST_SCAN + timedelta(days=patient + DAYS[visit])
        _write_scan(folder / f"PAT{patient:04d}" / f"STU{visit}", f"UH-{patient:06d}", f"{ROOT}{scan:04d}", start)
    return scans * FILES_PER_SCAN


def _write_scan(folder: Path, patient: str, study: str, start: datetime) -> None:
    def write(name: str, number: int, dataset: Dataset, slices: int, pixel_bytes: int) -> None:
        uid = f"{study}.{number}"
        identity = {
            "PatientID": patient,
            "StudyInstanceUID": study,
            "SeriesInstanceUID": uid,
            "FrameOfReferenceUID": f"{study}.99",
            "SeriesNumber": number,
            "SeriesDate": f"{start:%Y%m%d}",
            "SeriesTime": f"{start:%H%M%S}.000000",
            "AcquisitionDate": f"{start:%Y%m%d}",
        }
        _fill(dataset, identity)
        _write_series(folder / name, dataset, uid, slices, pixel_bytes, start)

    write("CT", 2, _image(CT, "CT", 512, CT_ONLY), CT_SLICES, 512 * 512 * 2)
    write("PT", 3, _image(PET, "PT", 128, SPECT_ONLY, PET_ONLY), PET_SLICES, 128 * 128 * 2)
    projections = {"ImageType": ["ORIGINAL", "PRIMARY", "TOMO", "EMISSION"]}
    write("NM", 4, _image(NM, "NM", 128, SPECT_ONLY, NM_ONLY, projections), 1, 128 * 128 * 128 * 2)
    planar = {"ImageType": ["ORIGINAL", "PRIMARY", "WHOLE BODY", "EMISSION"]}
    write("WB", 5, _image(NM, "NM", 256, SPECT_ONLY, NM_ONLY, planar), 1, 256 * 1024 * 2 * 2)
    scout = {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER", "CT_SOM5 TOP"]}
    write("TOPO", 1, _image(CT, "CT", 512, CT_ONLY, scout), 2, 512 * 512 * 2)


def _image(sop_class: str, modality: str, pixels: int, *elements: Mapping[str, Any]) -> Dataset:
    dataset = Dataset()
    dataset.SOPClassUID, dataset.Modality, dataset.Rows, dataset.Columns = sop_class, modality, pixels, pixels
    for values in (COMMON, *elements):
        _fill(dataset, values)
    _add_sequences(dataset, modality)
    block = dataset.private_block(0x0029, "SIEMENS CSA HEADER", create=True)
    for element, vr, value in ((0x08, "CS", "SOM 5"), (0x09, "LO", "VB22B"), (0x10, "OB", bytes(2048))):
        block.add_new(element, vr, value)
    return dataset


def _fill(dataset: Dataset, values: Mapping[str, Any]) -> None:
    for keyword, value in values.items():
        setattr(dataset, keyword, value)


def _add_sequences(dataset: Dataset, modality: str) -> None:
    def items(*values: Mapping[str, Any]) -> list[Dataset]:
        made = [Dataset() for _ in values]
        for item, content in zip(made, values, strict=True):
            _fill(item, content)
        return made

    code = {"CodeValue": "NM001", "CodingSchemeDesignator": "UH", "CodeMeaning": "Lu-177 SPECT/CT"}
    reference = {"ReferencedSOPClassUID": CT, "ReferencedSOPInstanceUID": f"{ROOT}.7"}
    dataset.ProcedureCodeSequence = items(code)
    dataset.ReferencedStudySequence = items(reference)
    dataset.ReferencedPerformedProcedureStepSequence = items(reference)
    dataset.ReferencedImageSequence = items(reference, reference, reference)
    # Makers write sequences with and without a length.
    dataset["ReferencedImageSequence"].is_undefined_length = True
    dataset.RequestAttributesSequence = items({"RequestedProcedureID": "R1", "ScheduledProcedureStepID": "S1"})
    if modality == "CT":
        dataset.CTDIPhantomTypeCodeSequence = items(code)
        return
    drug = {"Radiopharmaceutical": "Lu-177", "RadionuclideTotalDose": "7400", "RadionuclideHalfLife": "574300"}
    dataset.RadiopharmaceuticalInformationSequence = items(drug)
    dataset.EnergyWindowInformationSequence = items({"EnergyWindowName": "Lu-177 208"})
    dataset.PatientOrientationCodeSequence = items(code)
    dataset.PatientGantryRelationshipCodeSequence = items(code)


def _write_series(folder: Path, dataset: Dataset, uid: str, slices: int, pixel_bytes: int, start: datetime) -> None:
    folder.mkdir(parents=True)
    head = _head(dataset, uid, pixel_bytes)
    for z, values in enumerate(_values(slices, start), start=1):
        path = folder / f"IM{z:06d}"
        with path.open("wb") as stream:
            own = head
            for placeholder, value in zip((_UID, _NUMBER, _PLACE, _CLOCK), values, strict=True):
                assert len(placeholder) == len(value)
                own = own.replace(placeholder.encode(), value.encode())
            stream.write(own)
            stream.truncate(len(own) + pixel_bytes)


def _values(slices: int, start: datetime) -> Iterator[tuple[str, str, str, str]]:
    for z in range(slices):
        clock = start + timedelta(milliseconds=40 * z)
        yield f"9.8.7.6.5.{10000 + z}", f"{z + 1:06d}", f"{-1200 + 1.5 * z:08.2f}", f"{clock:%H%M%S.%f}"


def _head(dataset: Dataset, uid: str, pixel_bytes: int) -> bytes:
    """The file up to its pixels, with placeholders."""
    dataset.SOPInstanceUID = f"{uid}.{_UID}"
    dataset.InstanceNumber = _NUMBER
    dataset.ImageOrientationPatient = ["1", "0", "0", "0", "1", "0"]
    dataset.ImagePositionPatient = ["-250", "-408", _PLACE]
    dataset.SliceLocation = _PLACE
    dataset.AcquisitionTime = _CLOCK
    dataset.PixelData = bytes(pixel_bytes)
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    stream = io.BytesIO()
    dataset.save_as(stream, enforce_file_format=True)
    return stream.getvalue()[:-pixel_bytes]
