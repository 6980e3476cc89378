#!/bin/sh
# The packages that open_clip's trainer needs and this project does not, in a folder of their own:
#   benchmarks/open_clip_packages.sh FOLDER
# It reads shards with webdataset up to 0.2.86 only; later ones end in KeyError: 'fname'.
set -eu
exec "${PYTHON:-python}" -m pip install --no-deps --target "${1:?name the folder}" \
    'webdataset==0.2.86' braceexpand pandas python-dateutil six pytz tzdata
