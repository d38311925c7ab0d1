// Credentials in what everybody of this machine (the command line) or of this user (the environment) may read of a
// process under /proc. They are overwritten where they stand once they have been read: the launcher and its agents have
// copies of their own, and so has the program, where it is to have them.
#pragma once

namespace towpath {

// Before anything else reads the words.
void remember_words(int count, char** words) noexcept;

// The part in front of "@" in the values of --http and --https and of proxy variables, here and in all that is forked
// from here.
void wipe_credentials() noexcept;

}  // namespace towpath
