// SPDX-License-Identifier: Apache-2.0
// A shared object that says TEXT, or one that needs another and says what that says.
#ifdef NEEDED
extern "C" const char* NEEDED();
extern "C" const char* NAME() { return NEEDED(); }
#else
#include <cstdlib>
// So that it needs a version of the C library.
extern "C" const char* NAME() { return std::getenv("PLACES_NO_SUCH") ? "" : TEXT; }
#endif
