"""Dictionaries, lists and namespaces in shared memory: the parts that need not be fast."""

from onecopy._containers.dict import Dict
from onecopy._containers.list import List
from onecopy._containers.lock import ContainerLock
from onecopy._containers.namespace import Namespace

__all__ = ["ContainerLock", "Dict", "List", "Namespace"]
