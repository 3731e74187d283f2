# SPDX-License-Identifier: MIT
# gnuplot -e "data='FILE'; picture='FILE.png or .svg'" plot.gp
# Data: a line of names, then payload_bytes and each transport's total, from bench_report --plot-data.
if (picture[strlen(picture) - 3:] eq ".svg") {
    set terminal svg size 900,600 background rgb 'white'
} else {
    set terminal pngcairo size 900,600
}
set output picture
set title "Instructions per message, produce + consume, batch 16"
set xlabel "payload, bytes"
set ylabel "instructions"
set logscale x 2
set logscale y 10
set grid
set key outside right
stats data skip 1 nooutput
# ring-*-epoll lies on ring-*: left out.
names = system(sprintf("head -n 1 '%s'", data))
plot for [column = 2:words(names)] data skip 1 \
    using 1:(strstrt(word(names, column), "-epoll") ? NaN : column(column)) \
    with linespoints title (strstrt(word(names, column), "-epoll") ? "" : word(names, column))
