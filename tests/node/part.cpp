// SPDX-License-Identifier: Apache-2.0
// A shared object that says TEXT, or one that needs another and says what that says.
#ifdef NEEDED
extern "C" const char* NEEDED();
extern "C" const char* NAME() { return NEEDED(); }
#else
extern "C" const char* NAME() { return TEXT; }
#endif
