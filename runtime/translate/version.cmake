cmake_minimum_required(VERSION 3.20)
# Writes OUTPUT: a header with the version and a digest of the SOURCES, so that a cache made by other sources is refused.
foreach(source ${SOURCES})
  file(SHA256 ${source} digest)
  string(APPEND all ${digest})
endforeach()
string(SHA256 all "${all}")
string(SUBSTRING ${all} 0 16 short)
file(CONFIGURE OUTPUT ${OUTPUT} CONTENT "#define AVANT_TRANSLATOR \"@VERSION@ @short@\"\n" @ONLY)
