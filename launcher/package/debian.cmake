# SPDX-License-Identifier: Apache-2.0
# What `cpack` makes: a Debian package for each component. The runtime package is the shared library,
# so a static build has none.
set(places_deb_api ${PROJECT_VERSION_MAJOR}.${PROJECT_VERSION_MINOR})
set(CPACK_GENERATOR DEB)
set(CPACK_COMPONENTS_ALL places_dev)
if(BUILD_SHARED_LIBS)
  list(APPEND CPACK_COMPONENTS_ALL places_runtime)
endif()
if(builds_cli)
  list(APPEND CPACK_COMPONENTS_ALL places_tools)
endif()
# The folders of this project, which may be a part of another.
set(CPACK_INSTALL_CMAKE_PROJECTS "${PROJECT_BINARY_DIR};places;ALL;/")
set(CPACK_OUTPUT_CONFIG_FILE ${PROJECT_BINARY_DIR}/CPackConfig.cmake)
set(CPACK_SOURCE_OUTPUT_CONFIG_FILE ${PROJECT_BINARY_DIR}/CPackSourceConfig.cmake)

set(CPACK_PACKAGE_NAME places)
set(CPACK_PACKAGE_VERSION ${PROJECT_VERSION})
set(CPACK_PACKAGE_CONTACT "The places developers <places@localhost>")
set(CPACK_RESOURCE_FILE_LICENSE ${PROJECT_SOURCE_DIR}/LICENSE)
set(CPACK_STRIP_FILES ON)
set(CPACK_DEB_COMPONENT_INSTALL ON)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_PRIORITY optional)
set(CPACK_DEBIAN_ENABLE_COMPONENT_DEPENDS OFF)

# A program links the library of one version, so a package needs the other of that very version.
set(places_deb_library "libplaces${places_deb_api} (= ${PROJECT_VERSION})")
set(CPACK_DEBIAN_PLACES_RUNTIME_PACKAGE_NAME libplaces${places_deb_api})
set(CPACK_DEBIAN_PLACES_RUNTIME_PACKAGE_SECTION libs)
set(CPACK_COMPONENT_PLACES_RUNTIME_DESCRIPTION
  "Processes that talk over shared memory and TLS: shared library")

set(CPACK_DEBIAN_PLACES_DEV_PACKAGE_NAME libplaces-dev)
set(CPACK_DEBIAN_PLACES_DEV_PACKAGE_SECTION libdevel)
set(CPACK_COMPONENT_PLACES_DEV_DESCRIPTION
  "Processes that talk over shared memory and TLS: headers and library for programs")
set(places_deb_boost libboost-context${Boost_VERSION_MAJOR}.${Boost_VERSION_MINOR}-dev)
if(BUILD_SHARED_LIBS)
  set(CPACK_DEBIAN_PLACES_DEV_PACKAGE_DEPENDS "${places_deb_library}, ${places_deb_boost}")
else()
  set(CPACK_DEBIAN_PLACES_DEV_PACKAGE_DEPENDS
    "${places_deb_boost}, libcapnp-dev, libssl-dev, libssh2-1-dev, pkg-config")
endif()

set(CPACK_DEBIAN_PLACES_TOOLS_PACKAGE_NAME places)
set(CPACK_DEBIAN_PLACES_TOOLS_PACKAGE_SECTION net)
set(CPACK_COMPONENT_PLACES_TOOLS_DESCRIPTION
  "Processes that talk over shared memory and TLS: the places command, which runs nodes")
if(BUILD_SHARED_LIBS)
  set(CPACK_DEBIAN_PLACES_TOOLS_PACKAGE_DEPENDS "${places_deb_library}")
endif()

# Which packages hold the libraries that a program was linked with, dpkg-shlibdeps finds out. CPack
# chooses its programs by file(1).
find_program(places_shlibdeps dpkg-shlibdeps NO_CACHE)
find_program(places_file file NO_CACHE)
if(places_shlibdeps AND places_file)
  set(CPACK_DEBIAN_PLACES_RUNTIME_PACKAGE_SHLIBDEPS ON)
  set(CPACK_DEBIAN_PLACES_TOOLS_PACKAGE_SHLIBDEPS ON)
  if(BUILD_SHARED_LIBS)
    set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS_PRIVATE_DIRS ${PROJECT_BINARY_DIR}/launcher/package)
  endif()
endif()
include(CPack)
