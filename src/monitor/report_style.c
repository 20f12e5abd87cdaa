/*
 * monitor/report_style.c
 *		How the report looks.
 *
 * Colours are named by what they stand for, once for light and once for dark; all that is text has a contrast of
 * 4.5 to 1 at least on what it stands on. Nothing is loaded from anywhere.
 */
#include "postgres.h"

#include "monitor/report_style.h"

/* Colours. */
#define LIGHT                                                                \
	"--page:#f6f6f3;--card:#fff;--ink:#1b1f24;--soft:#565d66;"               \
	"--line:#e2e2dd;--track:#efefeb;--link:#2456b8;--good:#1a7a4c;"          \
	"--bar:#3f9a6f;--bad:#bf2b23;--dead:#8a2f8f;--halt:#8f5a00;"             \
	"--work:#2456b8;--aside:#5f6670;--bad-wash:#fdf1ef;--good-wash:#eef7f1;" \
	"--halt-wash:#fbf4e6;--aside-wash:#f1f1ee;--work-wash:#eef3fc;"
#define DARK                                                                 \
	"--page:#121417;--card:#1a1d21;--ink:#e9eaec;--soft:#a3a9b2;"            \
	"--line:#2d3137;--track:#24282d;--link:#8ab4f8;--good:#5fcf97;"          \
	"--bar:#3f9d72;--bad:#ff8379;--dead:#dd93e2;--halt:#e5b454;"             \
	"--work:#8ab4f8;--aside:#a3a9b2;--bad-wash:#2d1c1b;--good-wash:#17271f;" \
	"--halt-wash:#2b2416;--aside-wash:#24282d;--work-wash:#1b2536;"

static const char sheet[] =
	":root{color-scheme:light dark;" LIGHT "}\n"
	"@media (prefers-color-scheme:dark){:root{" DARK "}}\n"
	"*{box-sizing:border-box}\n"
	"html{-webkit-text-size-adjust:100%;text-size-adjust:100%}\n"
	"body{margin:0;background:var(--page);color:var(--ink);"
	"font:16px/1.55 system-ui,-apple-system,\"Segoe UI\",Roboto,\"Noto Sans\",\"Liberation Sans\",sans-serif}\n"
	"header,main,footer{max-width:68rem;margin:0 auto;padding:0 1.5rem}\n"
	"header{padding-top:3rem}\n"
	"h1,h2,h3,p,ul,dl,dd,figure,pre{margin:0;padding:0}\n"
	"h1{font-size:2.25rem;line-height:1.15;letter-spacing:-.022em;font-weight:650;text-wrap:balance}\n"
	"h1 .sign{width:1.1em;height:1.1em;vertical-align:-.16em;margin:0 .3em 0 -.15em}\n"
	"h2{font-size:1.25rem;line-height:1.3;letter-spacing:-.01em;font-weight:650}\n"
	"h3{font-size:1rem;font-weight:600;line-height:1.4}\n"
	"code,.name,pre{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,\"DejaVu Sans Mono\",\"Liberation Mono\",monospace;"
	"font-size:.9em}\n"
	".name,.message,.where,code,pre,dd{overflow-wrap:anywhere}\n"
	"time,.figure,td,.number{font-variant-numeric:tabular-nums}\n"
	".kicker{color:var(--soft);font-size:.875rem;margin-bottom:.75rem}\n"
	".period{color:var(--soft);margin-top:.6rem}\n"
	"section{margin-top:3.5rem}\n"
	"section>p{color:var(--soft);max-width:44rem;margin-top:.25rem}\n"
	".card{background:var(--card);border:1px solid var(--line);border-radius:12px;padding:1.25rem 1.5rem}\n"
	".nothing{color:var(--soft)}\n"
	"section>.card{margin-top:1.25rem}\n"

	/* the figures at the top */
	".figures{display:grid;grid-template-columns:repeat(4,1fr);gap:1px;background:var(--line);"
	"border:1px solid var(--line);border-radius:12px;overflow:hidden;margin-top:2rem;list-style:none}\n"
	".figures li{background:var(--card);padding:1rem 1.5rem}\n"
	".figure{display:block;font-size:1.75rem;line-height:1.2;font-weight:600;letter-spacing:-.02em}\n"
	".figure+span{color:var(--soft);font-size:.875rem}\n"

	/* signs: a shape, a colour and a word */
	".shapes{position:absolute}\n"
	".sign{flex:none;vertical-align:-2px;overflow:visible}\n"
	".full{fill:currentColor}\n"
	".line{fill:none;stroke:currentColor;stroke-width:1.9;stroke-linecap:round;stroke-linejoin:round}\n"
	".c-ok,.c-succeeded,.c-recovered{color:var(--good);--wash:var(--good-wash)}\n"
	".c-failed,.c-failing,.c-error{color:var(--bad);--wash:var(--bad-wash)}\n"
	".c-crashed{color:var(--dead);--wash:var(--bad-wash)}\n"
	".c-cancelled,.c-overdue,.c-warning{color:var(--halt);--wash:var(--halt-wash)}\n"
	".c-running{color:var(--work);--wash:var(--work-wash)}\n"
	".c-skipped,.c-rolled_back,.c-disabled,.c-never_run{color:var(--aside);--wash:var(--aside-wash)}\n"
	".badge{display:inline-flex;align-items:center;gap:.35rem;font-size:.8125rem;font-weight:600;line-height:1;"
	"white-space:nowrap;padding:.35rem .6rem .35rem .45rem;border-radius:99px;background:var(--wash)}\n"

	/* the jobs */
	".jobs{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,25rem),1fr));gap:1rem;margin-top:1.25rem}\n"
	".job{display:flex;flex-direction:column;gap:.5rem}\n"
	".top{display:flex;flex-wrap:wrap;align-items:center;justify-content:space-between;gap:.5rem .75rem}\n"
	".job p{color:var(--soft);font-size:.9375rem}\n"
	".job dl{display:grid;grid-template-columns:max-content 1fr;gap:.3rem 1.25rem;font-size:.9375rem;"
	"margin-top:.5rem;padding-top:.9rem;border-top:1px solid var(--line)}\n"
	"dt{color:var(--soft)}\n"
	".soft{color:var(--soft)}\n"
	".unit{white-space:nowrap}\n"
	".job p::first-letter{text-transform:uppercase}\n"

	/* drawings */
	".chart{display:block;overflow:visible}\n"
	".chart text{fill:var(--soft);font-size:12px}\n"
	".chart .lane{fill:var(--ink);font-size:13px;font-weight:600}\n"
	".chart .lane,.chart .number,.chart .value{paint-order:stroke;stroke:var(--card);stroke-width:6px;"
	"stroke-linejoin:round}\n"
	".chart .number{text-anchor:end}\n"
	".axis line{stroke:var(--line)}\n"
	".track{fill:var(--track)}\n"
	".timeline rect{fill:var(--bar)}\n"
	".timeline .track{fill:var(--track)}\n"
	".timeline g:hover rect{fill:var(--good)}\n"
	".durations circle{fill:var(--good);r:2.25px}\n"
	".durations g:hover circle{fill:var(--ink)}\n"
	".durations g:not(.axis) line{stroke:var(--bar);stroke-width:1.5;opacity:.6}\n"
	".mean{overflow:visible}\n"
	".mean polyline{fill:none;stroke:var(--bar);stroke-width:1.25;opacity:.75}\n"
	".sign.c-succeeded{color:var(--bar)}\n"
	".legend{display:flex;flex-wrap:wrap;gap:.4rem 1.25rem;list-style:none;font-size:.8125rem;color:var(--soft);"
	"margin-top:1rem;padding-top:1rem;border-top:1px solid var(--line)}\n"
	".legend li{display:inline-flex;align-items:center;gap:.4rem}\n"
	".charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,25rem),1fr));gap:1rem;margin-top:1.25rem}\n"
	"figcaption{display:flex;flex-wrap:wrap;justify-content:space-between;gap:.1rem .75rem;margin-bottom:.5rem}\n"
	"figcaption span:last-child{color:var(--soft);font-size:.875rem}\n"

	/* tables */
	".sheet{padding:0;overflow:hidden}\n"
	"summary:focus-visible{outline:2px solid var(--link);outline-offset:2px}\n"
	"table{border-collapse:collapse;width:100%;font-size:.9375rem}\n"
	"caption{text-align:left;color:var(--soft);font-size:.875rem;padding:1rem 1.5rem .25rem}\n"
	"th,td{padding:.65rem .75rem;text-align:left;border-top:1px solid var(--line);font-weight:400}\n"
	"thead th{border-top:0;color:var(--soft);font-size:.8125rem;vertical-align:bottom}\n"
	"th:first-child,td:first-child{padding-left:1.5rem}\n"
	"th:last-child,td:last-child{padding-right:1.5rem}\n"
	".numbers td,.numbers thead th:not(:first-child){text-align:right;white-space:nowrap}\n"
	".numbers .sign{margin-right:.35rem}\n"
	".zero{color:var(--soft)}\n"
	"td small{display:block;color:var(--soft);font-size:.8125rem}\n"

	/* what went wrong, alerts, findings */
	".list{padding:0;overflow:hidden}\n"
	".list ul{list-style:none}\n"
	".list li{padding:1.1rem 1.5rem;border-top:1px solid var(--line);display:grid;"
	"grid-template-columns:minmax(0,1fr);gap:.4rem}\n"
	".list>ul>li:first-child{border-top:0}\n"
	".further>summary{width:auto;padding:1rem 1.5rem;border-top:1px solid var(--line);outline-offset:-4px;"
	"font-weight:600;border-radius:0}\n"
	".where{display:flex;flex-wrap:wrap;align-items:center;gap:.4rem .75rem;font-size:.9375rem}\n"
	".where time,.where .soft{font-size:.875rem;color:var(--soft)}\n"
	".message{font-weight:600;white-space:pre-wrap;unicode-bidi:isolate}\n"
	".more{color:var(--soft);font-size:.9375rem;white-space:pre-wrap;overflow-wrap:anywhere;unicode-bidi:isolate}\n"
	".more b{color:var(--ink);font-weight:600}\n"
	"details{font-size:.875rem;color:var(--soft)}\n"
	"summary{cursor:pointer;width:max-content;border-radius:4px}\n"
	"pre{white-space:pre-wrap;background:var(--track);color:var(--ink);border-radius:8px;padding:.75rem 1rem;"
	"margin-top:.4rem;unicode-bidi:isolate}\n"
	".list .rest{color:var(--soft);font-size:.9375rem}\n"

	"footer{color:var(--soft);font-size:.875rem;margin-top:4rem;padding-top:1.5rem;padding-bottom:3rem}\n"
	"footer p{border-top:1px solid var(--line);padding-top:1.5rem}\n"

	"@media (max-width:44rem){\n"
	"header,main,footer{padding-left:1rem;padding-right:1rem}\n"
	"header{padding-top:2rem}\n"
	"h1{font-size:1.75rem}\n"
	"section{margin-top:2.5rem}\n"
	".figures{grid-template-columns:1fr 1fr}\n"
	".figures li,.card,.list li,.further>summary{padding-left:1rem;padding-right:1rem}\n"
	".sheet,.list{padding-left:0;padding-right:0}\n"
	".durations circle{r:1.75px}\n"
	/* a row becomes a card */
	"table,tbody,caption{display:block}\n"
	"caption{padding:.9rem 1rem}\n"
	"thead{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%)}\n"
	"tbody tr{display:flex;flex-wrap:wrap;gap:.3rem 1.1rem;padding:.9rem 1rem;border-top:1px solid var(--line)}\n"
	"tbody tr th:first-child,tbody tr td:nth-child(n){border:0;padding:0}\n"
	".job .name{font-size:.8125rem}\n"
	"tbody tr th{flex:1 0 100%;font-weight:600}\n"
	".numbers .zero{display:none}\n"
	".numbers td::after{content:\"\\a0\" attr(data-label);color:var(--soft)}\n"
	".upcoming td{flex:1 0 100%;display:flex;justify-content:space-between}\n"
	".alternate{display:none}\n"
	"}\n"
	"@media print{:root{" LIGHT "}body{font-size:12px}.card,.list li{break-inside:avoid}}\n";

const char *
cj_report_style_sheet(void)
{
	return sheet;
}
