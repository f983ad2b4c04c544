// Declares what pool.cpp calls where the stress test wants it to lose its core.
#pragma once
void lose_the_core();
