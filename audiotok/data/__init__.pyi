"""Public names of `audiotok.data`."""

from audiotok.data.alignment import Alignment as Alignment
from audiotok.data.alignment import TimedSpan as TimedSpan
from audiotok.data.alignment import align as align
from audiotok.data.alignment import frame_labels as frame_labels
from audiotok.data.alignment import words_of as words_of
from audiotok.data.augment import add_noise as add_noise
from audiotok.data.augment import coloured as coloured
from audiotok.data.augment import low_pass as low_pass
from audiotok.data.commands import CommandError as CommandError
from audiotok.data.features.base import SpeechTeacher as SpeechTeacher
from audiotok.data.features.base import Teacher as Teacher
from audiotok.data.features.base import TeacherError as TeacherError
from audiotok.data.locator import AudioLocator as AudioLocator
from audiotok.data.locator import ListingError as ListingError
from audiotok.data.manifest import listing_of as listing_of
from audiotok.data.manifest import read_manifest as read_manifest
from audiotok.data.manifest import write_manifest as write_manifest
from audiotok.data.recording import Recording as Recording
from audiotok.data.sources.base import Listing as Listing
from audiotok.data.transient import TransientError as TransientError
