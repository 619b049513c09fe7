# The compiler settings that every target shares.
if(NOT CMAKE_CXX_COMPILER_ID STREQUAL "Clang" OR CMAKE_CXX_COMPILER_VERSION VERSION_LESS 19)
  message(FATAL_ERROR "Pyralog needs clang 19 or newer (g++ 12 miscompiles coroutines); "
                      "run scripts/setup.sh run, or set CXX=clang++-22 CC=clang-22.")
endif()

set(CMAKE_CXX_STANDARD 23)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(THREADS_PREFER_PTHREAD_FLAG ON)
find_package(Threads REQUIRED)

find_program(PYRALOG_CCACHE ccache)
if(PYRALOG_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${PYRALOG_CCACHE})
  set(CMAKE_C_COMPILER_LAUNCHER ${PYRALOG_CCACHE})
endif()

find_program(PYRALOG_MOLD NAMES mold)
find_program(PYRALOG_LLD NAMES ld.lld-22 ld.lld)
if(PYRALOG_MOLD)
  add_link_options(-fuse-ld=mold)
elseif(PYRALOG_LLD)
  add_link_options(--ld-path=${PYRALOG_LLD})
endif()

add_compile_options(-march=x86-64-v2 -Wall -Wextra -Wconversion -Wshadow -Werror
                    -fno-omit-frame-pointer -fdiagnostics-color=auto)
# Debug information as line tables only: stack traces stay readable, links stay quick.
add_compile_options($<$<CONFIG:RelWithDebInfo,Release>:-O2> $<$<CONFIG:RelWithDebInfo,Release,Debug>:-gline-tables-only>)

if(PYRALOG_SANITIZE STREQUAL "address")
  add_compile_options(-fsanitize=address,undefined -fno-sanitize-recover=undefined -O1)
  add_link_options(-fsanitize=address,undefined)
elseif(PYRALOG_SANITIZE STREQUAL "thread")
  add_compile_options(-fsanitize=thread -O1)
  add_link_options(-fsanitize=thread)
elseif(PYRALOG_SANITIZE)
  message(FATAL_ERROR "PYRALOG_SANITIZE is address or thread, not ${PYRALOG_SANITIZE}")
endif()
if(PYRALOG_FUZZ)
  add_compile_options(-fsanitize=fuzzer-no-link)
endif()
if(PYRALOG_PLANTS)
  add_compile_definitions(PYRALOG_PLANTS=1)
endif()
