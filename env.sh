# Source me (bash or zsh): `source env.sh`. Makes bare Dagster commands work from anywhere in this shell.
# Set MAJORS_ALTS_LAKE, MAJORS_ALTS_CONFIG or MAJORS_ALTS_OUT before, to point at a lake, settings or results
# of your own.
_ma_root="$(cd "$(dirname "${BASH_SOURCE[0]:-${(%):-%x}}")" && pwd)"
export DAGSTER_HOME="${_ma_root}/dagster_home"
export DAGSTER_MODULE_NAME="majors_alts_pipeline.definitions"
export DAGSTER_DISABLE_TELEMETRY=1
export DAGSTER_EVENT_BATCH_SIZE="${DAGSTER_EVENT_BATCH_SIZE:-1000}"
case ":${PATH}:" in *":${_ma_root}/.venv/bin:"*) ;; *) export PATH="${_ma_root}/.venv/bin:${PATH}" ;; esac
# Default partition of `dagster asset materialize`: the last complete day of the lake.
if _ma_day="$("${_ma_root}/.venv/bin/majors-alts" last-day)"; then
  export DAGSTER_CLI_ASSET_MATERIALIZE_PARTITION="${_ma_day}"
else
  echo "env.sh: no default partition was set; see the message above" >&2
fi
unset _ma_root _ma_day
