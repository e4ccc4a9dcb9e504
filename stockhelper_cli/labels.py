"""The labels that are the state: Compose's, by which it recognises what is a project's, and our own."""

from __future__ import annotations

from typing import Final

PREFIX: Final = "com.docker.compose."
PROJECT: Final = PREFIX + "project"
SERVICE: Final = PREFIX + "service"
CONFIG_HASH: Final = PREFIX + "config-hash"
NUMBER: Final = PREFIX + "container-number"
ONEOFF: Final = PREFIX + "oneoff"
IMAGE: Final = PREFIX + "image"
DEPENDS_ON: Final = PREFIX + "depends_on"
CONFIG_FILES: Final = PREFIX + "project.config_files"
WORKING_DIR: Final = PREFIX + "project.working_dir"
VERSION: Final = PREFIX + "version"
NETWORK: Final = PREFIX + "network"
VOLUME: Final = PREFIX + "volume"
SLUG: Final = PREFIX + "slug"
REPLACE: Final = PREFIX + "replace"

#: On a container in which `db upgrade` runs a server of its own: that one's major.
UPGRADE: Final = "stockhelper.upgrade"
#: On a container in which a verb runs one command, and which it removes: that verb's service.
TEMPORARY: Final = "stockhelper.temporary"
#: On a volume that `db upgrade` made: the volume that the data came from.
UPGRADED_FROM: Final = "stockhelper.upgraded-from"
#: On an image that we built: the digest of the build's inputs (`stockhelper_cli.machine` and `converge` compare it).
BUILD_INPUTS: Final = "stockhelper.build-inputs"
#: On an image that we built: the migration heads it brings, comma-joined.
MIGRATION_HEADS: Final = "stockhelper.migration-heads"
#: On a base image that was built from distribution packages: the digest of its recipe.
BASE_RECIPE: Final = "stockhelper.base-recipe"
