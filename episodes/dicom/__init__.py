"""DICOM files: their pixels and the few facts that are of use here. What names a patient never leaves this package."""

from episodes.dicom.files import SUFFIXES, is_dicom
from episodes.dicom.header import DicomFacts, read_facts
from episodes.dicom.pixels import read_pixels, read_stored

__all__ = ["SUFFIXES", "DicomFacts", "is_dicom", "read_facts", "read_pixels", "read_stored"]
