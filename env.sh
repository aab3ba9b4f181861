# Source me in bash or zsh, from anywhere: `source env.sh`. Makes bare Dagster commands work in this shell.
# Set MAJORS_ALTS_LAKE, MAJORS_ALTS_CONFIG or MAJORS_ALTS_OUT before, to point at a lake, settings or results
# of your own.
_ma_root="$(cd "$(dirname "${BASH_SOURCE[0]:-${(%):-%x}}")" && pwd)"
export DAGSTER_HOME="${DAGSTER_HOME:-${_ma_root}/dagster_home}"
export DAGSTER_MODULE_NAME="majors_alts_pipeline.definitions"
export DAGSTER_DISABLE_TELEMETRY=1
export VIRTUAL_ENV="${_ma_root}/.venv"
export DAGSTER_EVENT_BATCH_SIZE="${DAGSTER_EVENT_BATCH_SIZE:-1000}"
# Dagster calls `dagster asset materialize` superseded by `dg launch` on every use; both work here.
case "${PYTHONWARNINGS:-}" in
  *asset_materialize_command*) ;;
  *) export PYTHONWARNINGS="${PYTHONWARNINGS:+${PYTHONWARNINGS},}ignore:Function \`asset_materialize_command\`" ;;
esac
case ":${PATH}:" in *":${_ma_root}/.venv/bin:"*) ;; *) export PATH="${_ma_root}/.venv/bin:${PATH}" ;; esac

# A relative path means the directory it was typed in, whatever the shell moves to later.
case "${MAJORS_ALTS_LAKE:-}" in "" | /* | *://*) ;; *) export MAJORS_ALTS_LAKE="${PWD}/${MAJORS_ALTS_LAKE}" ;; esac
case "${MAJORS_ALTS_OUT:-}" in "" | /* | *://*) ;; *) export MAJORS_ALTS_OUT="${PWD}/${MAJORS_ALTS_OUT}" ;; esac
case "${MAJORS_ALTS_CONFIG:-}" in "" | /* | *://*) ;; *) export MAJORS_ALTS_CONFIG="${PWD}/${MAJORS_ALTS_CONFIG}" ;; esac

# Whether every asset named in a list such as "evidence,report" has no partitions.
_ma_unpartitioned() {
  _ma_rest="${1// /},"
  while [ -n "${_ma_rest}" ]; do
    case "${_ma_rest%%,*}" in evidence | report | signals) ;; *) return 1 ;; esac
    _ma_rest="${_ma_rest#*,}"
  done
}

# Dagster refuses a variable that fills an option beside the one typed: the default partition beside a range or
# beside assets without partitions, the module beside a workspace or a file. What is typed wins.
dagster() (
  _ma_before=""
  for _ma_word in "$@"; do
    case "${_ma_before} ${_ma_word}" in
      *" --partition-range" | *" --partition-range="*) unset DAGSTER_CLI_ASSET_MATERIALIZE_PARTITION ;;
      "--select "*) ! _ma_unpartitioned "${_ma_word}" || unset DAGSTER_CLI_ASSET_MATERIALIZE_PARTITION ;;
      *" --select="*)
        ! _ma_unpartitioned "${_ma_word#--select=}" || unset DAGSTER_CLI_ASSET_MATERIALIZE_PARTITION ;;
    esac
    _ma_before="${_ma_word}"
  done
  case " $* " in
    *" -w "* | *" --workspace "* | *" --workspace="* | *" -f "* | *" --python-file "* | *" --python-file="*)
      unset DAGSTER_MODULE_NAME ;;
  esac
  command dagster "$@"
)

# Default partition of `dagster asset materialize`: the last complete day of the lake.
if _ma_day="$("${_ma_root}/.venv/bin/majors-alts" last-day)"; then
  export DAGSTER_CLI_ASSET_MATERIALIZE_PARTITION="${_ma_day}"
else
  unset DAGSTER_CLI_ASSET_MATERIALIZE_PARTITION
  echo "env.sh: no default partition was set; see the message above" >&2
fi
unset _ma_root _ma_day
