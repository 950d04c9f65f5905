"""Public names of `audiotok.training`."""

from audiotok.training.discriminators.base import Discriminator as Discriminator
from audiotok.training.discriminators.base import DiscriminatorOutput as DiscriminatorOutput
from audiotok.training.loop import CodecTrainer as CodecTrainer
from audiotok.training.loop import train as train
from audiotok.training.recipe import Recipe as Recipe
from audiotok.training.recipe import Train as Train
from audiotok.training.recipe import read_recipe as read_recipe
