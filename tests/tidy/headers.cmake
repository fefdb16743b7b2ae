# SPDX-License-Identifier: Apache-2.0
# places_check_headers(<target> <include directory> [library…])
# An object library with one source per header that includes nothing else: a header that needs
# another one first does not build.
function(places_check_headers target directory)
  file(GLOB_RECURSE headers CONFIGURE_DEPENDS RELATIVE ${directory} ${directory}/*.hpp)
  set(units)
  foreach(header IN LISTS headers)
    string(REPLACE "/" "." unit ${header})
    set(unit ${CMAKE_CURRENT_BINARY_DIR}/${target}/${unit}.cpp)
    file(CONFIGURE OUTPUT ${unit} CONTENT "#include <@header@>\n" @ONLY)
    list(APPEND units ${unit})
  endforeach()
  if(units)
    add_library(${target} OBJECT ${units})
    target_compile_options(${target} PRIVATE -O0)  # nobody runs it
    target_include_directories(${target} PRIVATE ${directory})
    target_link_libraries(${target} PRIVATE ${ARGN})
  endif()
endfunction()
