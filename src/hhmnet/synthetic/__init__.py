"""The packaged sample data set: ten actions performed by made-up people, as raw files in NW-UCLA's format.

Skeletons of the kinect20 layout come from parametric motion (:mod:`~hhmnet.synthetic.motion`) of a body with fixed bone
lengths (:mod:`~hhmnet.synthetic.body`), seen by three noisy sensors (:mod:`~hhmnet.synthetic.raw_files`); colour videos
of the same bodies, if they are wanted, come from :mod:`~hhmnet.synthetic.rendering`. The set lets every command run
without a download. Figures reached on it show that the software works; they say nothing about real people.

Two pairs of actions differ only by the object in the hand, so skeletons alone reach at most :data:`SKELETON_CEILING`
(0.8) top-1 on a balanced set; see :mod:`~hhmnet.synthetic.motion`. The videos show the objects.
"""

from hhmnet.synthetic.body import CAMERAS, Camera
from hhmnet.synthetic.motion import ACTIONS, SKELETON_CEILING, SUBJECTS, Action, Performance, performance
from hhmnet.synthetic.raw_files import VIDEOS, generate, observe, write_video
from hhmnet.synthetic.rendering import render

__all__ = [
    "ACTIONS",
    "CAMERAS",
    "SKELETON_CEILING",
    "SUBJECTS",
    "VIDEOS",
    "Action",
    "Camera",
    "Performance",
    "generate",
    "observe",
    "performance",
    "render",
    "write_video",
]
